// Sets the theme before the first paint. This script blocks rendering, so keep it tiny.
(() => {
  "use strict";
  const KEY = "ipau-theme";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem(KEY) || "auto";
    } catch {
      return "auto"; // Storage may be disabled.
    }
  }

  function apply() {
    const theme = chosen();
    const now = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
    document.documentElement.dataset.bsTheme = now;
  }

  function choose(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Without storage the choice lasts for this page only.
    }
    apply();
  }

  dark.addEventListener("change", apply);
  apply();
  window.ipauTheme = { chosen, choose };
})();
