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
at("title").append(name(data.recipe || "recipe"));
const drawn = data.seed === null || data.seed === undefined ? "torch's generator" : `seed ${data.seed}`;
const origin = rows.some((row) => row.status === "read") ? "the model as it stands" : drawn;
at("meta").textContent = [origin, `torch ${data.versions.torch}`, `initplug ${data.versions.initplug}`].map(visible).join(" · ");
at("footer").textContent = `recipe digest ${data.digest}`;
summarise();
recipe();
tabulate();
tools();
plant();
refresh();
