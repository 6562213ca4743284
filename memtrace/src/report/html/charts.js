// The curve over time, and the histograms.

const CHART = { width: 1200, height: 190, left: 70, right: 12, top: 10, bottom: 26 };

const SECONDS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200,
  3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400,
];

// Multiples of a round time, at most nine.
function moments(most) {
  const step = SECONDS.find((seconds) => most / seconds <= 9) ?? most;
  return multiples(step, most);
}

// Multiples of a power of two, at most four.
function amounts(most) {
  return multiples(2 ** Math.max(0, Math.ceil(Math.log2(most / 4))), most);
}

function multiples(step, most) {
  return Array.from({ length: Math.floor(most / step) }, (_, index) => step * (index + 1));
}

function timeline(place, report) {
  const points = report.timeline;
  if (points.length === 0) {
    place.replaceChildren(element("p", { class: "faint" }, "This report has no timeline."));
    return;
  }
  const end = Math.max(report.duration_ns, points[points.length - 1].time_ns, 1);
  const most = Math.max(...points.map((point) => point.peak_bytes), 1);
  const { width, height, left, right, top, bottom } = CHART;
  const x = (ns) => left + (ns / end) * (width - left - right);
  const y = (size) => height - bottom - (size / most) * (height - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", id: "curve" });
  for (const size of amounts(most)) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(size), y2: y(size) }));
    svg.append(shape("text", { x: left - 6, y: y(size) + 4, "text-anchor": "end" }, bytes(size)));
  }
  for (const seconds of moments(end / 1e9)) {
    svg.append(shape("text", { x: x(seconds * 1e9), y: height - 8, "text-anchor": "middle" }, round(time(Math.round(seconds * 1e9)))));
  }
  // It stays as it was until the next event.
  const path = points.map((point, index) =>
    `${index === 0 ? `M${x(point.time_ns)} ${y(0)}` : `H${x(point.time_ns)}`}V${y(point.peak_bytes)}V${y(point.bytes)}`);
  const curve = `${path.join("")}H${x(end)}`;
  svg.append(shape("path", { class: "area", d: `${curve}V${y(0)}Z` }), shape("path", { class: "curve", d: curve }));
  const cursor = shape("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(cursor);
  const last = points[points.length - 1];
  const tell = element("p", { class: "faint", id: "moment" });
  const summary = `Peak ${bytes(most)}, at the end ${bytes(last.bytes)} in ${count(last.count)} blocks`;
  svg.setAttribute("aria-label", summary);
  tell.textContent = summary;
  let chosen = points.length - 1;
  const choose = (index) => {
    chosen = Math.min(Math.max(index, 0), points.length - 1);
    const point = points[chosen];
    cursor.setAttribute("x1", x(point.time_ns));
    cursor.setAttribute("x2", x(point.time_ns));
    cursor.setAttribute("visibility", "visible");
    tell.textContent = `At ${time(point.time_ns)}: ${bytes(point.bytes)} in ${count(point.count)} blocks, up to ${bytes(point.peak_bytes)} shortly before`;
  };
  const under = (event) => {
    const box = svg.getBoundingClientRect();
    const at = (((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * end;
    const after = points.findIndex((point) => point.time_ns > at);
    choose(after < 0 ? points.length - 1 : after - 1);
  };
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    tell.textContent = summary;
  };
  svg.addEventListener("mousemove", under);
  svg.addEventListener("mouseleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) choose(chosen + step);
  });
  place.replaceChildren(svg, tell);
}

// Rows of [label, bytes, count]; `metric`: which of these is drawn.
function bars(place, rows, metric) {
  const value = (row) => row[1 + metric];
  const most = Math.max(...rows.map(value), 1);
  const all = rows.reduce((sum, row) => sum + value(row), 0);
  const cells = rows.flatMap((row) => {
    const bar = element("i", {});
    bar.style.width = `${(100 * value(row)) / most}%`;
    const amount = metric === 0 ? bytes(row[1]) : count(row[2]);
    return [element("span", {}, row[0]), element("span", {}, bar), element("span", { class: "number" }, `${amount}, ${percent(value(row), all)}`)];
  });
  const none = element("p", { class: "faint" }, "Nothing is outstanding.");
  place.replaceChildren(cells.length > 0 ? element("div", { class: "bars" }, ...cells) : none);
}

function histograms(report, metric) {
  const ages = report.ages.map((age) => {
    // The last class has no end.
    const open = age.max_ns > 1e18;
    const [from, to] = [age.min_ns, age.max_ns + 1].map((limit) => round(time(limit)));
    const label = open ? `${from} and older` : age.min_ns === 0 ? `under ${to}` : `${from} to ${to}`;
    return [label, age.bytes, age.count];
  });
  const sizes = report.sizes.map((size) => {
    const label = size.min === size.max ? bytes(size.min) : `${bytes(size.min)} to ${bytes(size.max + 1)}`;
    return [label, size.bytes, size.count];
  });
  bars(byId("ages"), ages, metric);
  bars(byId("sizes"), sizes, metric);
}
