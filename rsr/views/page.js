document.querySelectorAll("table").forEach(table => table.querySelectorAll("thead th").forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent; head.textContent = ""; head.append(button);
  button.addEventListener("click", () => {
    const body = table.tBodies[0], up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => { const text = row.cells[column].textContent.trim(), n = parseFloat(text.replace(/,/g, ""));
      return [text === "" ? 1 : 0, Number.isNaN(n) ? 1 : 0, Number.isNaN(n) ? text : n]; };
    const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;
    [...body.rows].map(row => [key(row), row]).sort(([a], [b]) => compare(a[0], b[0]) ||
      (up ? 1 : -1) * (compare(a[1], b[1]) || compare(a[2], b[2]))).forEach(([, row]) => body.append(row));
  });
}));
