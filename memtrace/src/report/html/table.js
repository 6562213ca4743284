// The table of stacks: sorted by any column, filtered, and shown a part at a
// time, since a report may hold a hundred thousand.

const PART = 100;

const COLUMNS = [
  { name: "Outstanding", value: (stack) => stack.bytes, show: (stack) => bytes(stack.bytes), number: true },
  { name: "Blocks", value: (stack) => stack.count, show: (stack) => count(stack.count), number: true },
  { name: "Share", value: (stack) => stack.bytes, show: (stack, report) => percent(stack.bytes, report.totals.outstanding_bytes), number: true },
  { name: "Allocated", value: (stack) => stack.allocated, show: (stack) => bytes(stack.allocated), number: true },
  { name: "Freed", value: (stack) => stack.freed, show: (stack) => `${(100 * stack.freed).toFixed(1)} %`, number: true },
  { name: "Oldest", value: (stack) => stack.oldest, show: (stack) => time(stack.oldest), number: true },
  { name: "Process", value: (stack) => stack.process, show: (stack) => stack.process },
  { name: "By", value: (stack) => stack.by, show: (stack) => stack.by },
  { name: "Allocated in", value: (stack) => stack.site, show: (stack) => stack.site, site: true },
];

class Table {
  constructor(table, report) {
    Object.assign(this, { table, report, column: COLUMNS[0], falling: true, wanted: "", limit: PART });
    this.open = new Set();
    this.head();
    this.draw();
  }

  head() {
    const cells = COLUMNS.map((column) => {
      const button = element("button", { type: "button" }, column.name);
      button.addEventListener("click", () => this.sort(column));
      column.cell = element("th", { scope: "col", class: column.number ? "number" : "" }, button);
      return column.cell;
    });
    this.table.tHead.replaceChildren(element("tr", {}, ...cells));
  }

  sort(column) {
    this.falling = column === this.column ? !this.falling : Boolean(column.number);
    this.column = column;
    this.limit = PART;
    this.draw();
  }

  filter(text) {
    this.wanted = text.trim().toLowerCase();
    this.limit = PART;
    this.draw();
  }

  more() {
    this.limit += PART;
    this.draw();
  }

  wants(stack) {
    const { wanted } = this;
    return wanted === "" || stack.text.includes(wanted) || stack.frames.some((frame) => frame.text.includes(wanted));
  }

  chosen() {
    const { value } = this.column;
    const sign = this.falling ? -1 : 1;
    const order = (a, b) => {
      const [left, right] = [value(a), value(b)];
      return left < right ? -sign : left > right ? sign : a.index - b.index;
    };
    return this.report.stacks.filter((stack) => this.wants(stack)).sort(order);
  }

  draw() {
    for (const column of COLUMNS) {
      const order = this.falling ? "descending" : "ascending";
      column.cell.setAttribute("aria-sort", column === this.column ? order : "none");
    }
    const chosen = this.chosen();
    const shown = chosen.slice(0, this.limit);
    this.table.tBodies[0].replaceChildren(...shown.flatMap((stack) => this.rows(stack)));
    const held = chosen.reduce((all, stack) => all + stack.bytes, 0);
    const left = this.report.stacks_total - this.report.stacks.length;
    const missing = left > 0 ? `; ${count(left)} more are not in this report` : "";
    byId("shown").textContent = `${count(shown.length)} of ${count(chosen.length)} stacks, ${bytes(held)}${missing}`;
    byId("more").hidden = chosen.length <= this.limit;
  }

  rows(stack) {
    const open = this.open.has(stack);
    const cells = COLUMNS.map((column) =>
      element("td", { class: column.number ? "number" : column.site ? "site" : "" }, column.show(stack, this.report)));
    const row = element("tr", { class: "stack", tabindex: "0", "aria-expanded": String(open) }, ...cells);
    const toggle = () => {
      if (!this.open.delete(stack)) this.open.add(stack);
      this.draw();
      const rows = [...this.table.tBodies[0].querySelectorAll("tr.stack")];
      const again = rows.find((other) => other.dataset.stack === String(stack.index));
      if (again) again.focus();
    };
    row.dataset.stack = stack.index;
    row.addEventListener("click", toggle);
    row.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
    return open ? [row, this.frames(stack)] : [row];
  }

  frames(stack) {
    const items = stack.frames.map((frame) => {
      const place = element("span", { class: "faint" }, frame.place ? `  ${frame.place}` : "");
      return element("li", {}, `${frame.name}${frame.inlined ? " (inlined)" : ""}`, place);
    });
    if (stack.truncated) items.push(element("li", { class: "faint" }, "the stack was cut here: who called further out is not known"));
    return element("tr", {}, element("td", { class: "frames", colspan: COLUMNS.length }, element("ol", {}, ...items)));
  }
}
