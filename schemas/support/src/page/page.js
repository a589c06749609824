// Values under the pointer, and folded parts that open when they are linked to or printed. The page works without this.
for (const chart of document.querySelectorAll("svg[data-chart]")) {
  const cursor = chart.querySelector(".cursor");
  const output = chart.parentElement.querySelector(".hover");
  // The most important series is drawn last and named first.
  const lists = [...chart.querySelectorAll("[data-x]")].reverse().map((group) => ({
    name: group.dataset.name,
    x: group.dataset.x.split(" ").map(Number),
    at: group.dataset.at.split("|"),
    value: group.dataset.value.split("|"),
  }));
  const nearest = (list, x) =>
    list.x.reduce((best, place, i) => (Math.abs(place - x) < Math.abs(list.x[best] - x) ? i : best), 0);
  const show = (event) => {
    const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse()).x;
    const found = lists.filter((list) => list.value[0] !== "").map((list) => [list, nearest(list, x)]);
    if (!found.length) return;
    found.sort(([a, i], [b, j]) => Math.abs(a.x[i] - x) - Math.abs(b.x[j] - x));
    const [first, place] = found[0];
    cursor.setAttribute("x1", first.x[place]);
    cursor.setAttribute("x2", first.x[place]);
    cursor.classList.add("shown");
    found.sort(([a], [b]) => lists.indexOf(a) - lists.indexOf(b));
    const values = found.map(([list, i]) => `${list.name} ${list.value[i]}`).join(", ");
    output.textContent = `${chart.dataset.chart} ${first.at[place]}: ${values}`;
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerdown", show);
  chart.addEventListener("pointerleave", () => {
    cursor.classList.remove("shown");
    output.textContent = "";
  });
}

const openLinked = () => {
  const target = document.getElementById(location.hash.slice(1));
  for (let part = target?.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  if (target?.closest("details")) target.scrollIntoView();
};
addEventListener("hashchange", openLinked);
openLinked();

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
});
