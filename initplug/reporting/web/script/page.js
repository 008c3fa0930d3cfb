// Colours, and all parts put together.

function theme() {
  const button = at("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("initplug-theme");
  } catch { /* a page without storage follows the system */ }
  const show = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show in ${dark ? "light" : "dark"} colours`);
  };
  button.onclick = () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("initplug-theme", chosen);
    } catch { /* likewise */ }
    show();
  };
  system.onchange = show;
  show();
}

theme();
at("theme").hidden = at("modules").hidden = at("parameters").hidden = false;
presses();
tabulate();
tools();
reading();
lay();
fit(at("parameters").clientWidth);
refresh();
resize(at("parameters").clientWidth);
render();
// The first screen is there before what is used later.
addEventListener("load", () =>
  setTimeout(() => {
    plant();
    searched();
  }),
);
