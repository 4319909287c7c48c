// Sets the formulas that pymdownx.arithmatex has marked, by the KaTeX that lies in katex/: nothing is fetched from elsewhere.
for (const formula of document.querySelectorAll(".arithmatex"))
  katex.render(formula.textContent.slice(2, -2), formula, { displayMode: formula.tagName === "DIV" });
// A browser chooses the shapes of Chinese characters by the language.
if (location.pathname.includes("/guide/zh/")) document.documentElement.lang = "zh-Hans";
