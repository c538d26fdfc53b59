(() => {
  "use strict";

  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const PAPER = 640; // pixels of a line on A4 and on Letter

  // Figures: their colours are those of the page, so that they follow the scheme.
  function colours(layout) {
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(name).trim();
    const clear = "rgba(0,0,0,0)";
    const update = {
      "font.color": of("--ink"),
      "font.family": getComputedStyle(document.body).fontFamily,
      "font.size": 12,
      "paper_bgcolor": clear,
      "plot_bgcolor": clear,
      "legend.bgcolor": clear,
      "hoverlabel.bgcolor": of("--raised"),
      "hoverlabel.bordercolor": of("--rule"),
      "hoverlabel.font.color": of("--ink"),
    };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      Object.assign(update, {
        [`${axis}.gridcolor`]: of("--grid"),
        [`${axis}.linecolor`]: of("--rule"),
        [`${axis}.zerolinecolor`]: of("--rule"),
        [`${axis}.tickcolor`]: of("--rule"),
      });
    }
    return update;
  }

  async function draw(plot) {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    plot.bare = layout.height;
    Object.assign(layout, spacious(plot, data));
    // With a finger one scrolls.
    layout.dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;
    for (const [key, value] of Object.entries(colours(layout))) {
      const path = key.split(".");
      const last = path.pop();
      path.reduce((at, part) => (at[part] ??= {}), layout)[last] = value;
    }
    await Plotly.newPlot(plot, data, layout, { displayModeBar: false });
    await trim(plot);
  }

  // The height of a drawing is that without its legend, which takes more rows where the panel is narrow: it is laid out
  // with room for a row per trace, measured, and the rest taken away.
  const spacious = (plot, data) => ({ width: plot.clientWidth, height: plot.bare + 26 * data.length });

  async function fit(plot, update = {}) {
    await Plotly.relayout(plot, { ...spacious(plot, plot.data), ...update });
    await trim(plot);
  }

  async function trim(plot) {
    const legend = plot.querySelector(".legend .bg");
    await Plotly.relayout(plot, { height: plot.bare + (legend ? Math.ceil(legend.getBBox().height) : 0) });
  }

  function recolour() {
    for (const plot of plots) Plotly.relayout(plot, colours(plot.layout));
  }

  function toPaper() {
    if (root.classList.contains("printing")) return;
    root.classList.add("printing");
    for (const plot of plots) {
      const panels = plot.closest(".plots").children.length;
      fit(plot, { ...colours(plot.layout), width: panels > 1 ? (PAPER - 20) / 2 : PAPER });
    }
  }

  function toScreen() {
    if (!root.classList.contains("printing")) return;
    root.classList.remove("printing");
    for (const plot of plots) fit(plot, colours(plot.layout));
  }

  let width = innerWidth;
  let waiting;
  function resized() {
    if (innerWidth === width) return; // on a telephone bars come and go while one scrolls
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => plots.forEach((plot) => fit(plot)), 200);
  }

  Promise.all(plots.map(draw)).then(() => { root.dataset.drawn = "yes"; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  matchMedia("print").addEventListener("change", (event) => (event.matches ? toPaper() : toScreen()));
  addEventListener("resize", resized);
  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", toScreen);

  // Tables: by a column's numbers or words, first up, then down; what has no number stays at the end.
  function compare(column, numeric, sign) {
    return (one, other) => {
      const [a, b] = [one, other].map((row) => row.cells[column]);
      if (!numeric) return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
      const [x, y] = [a, b].map((cell) => cell.dataset.value);
      return x === "" || y === "" ? (x === "") - (y === "") : sign * (x - y);
    };
  }

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = compare(column, head.classList.contains("number"), down ? -1 : 1);
      table.tBodies[0].append(...[...rows].sort(order));
    }));
  }
})();
