// Draws the charts of the dashboard. Their numbers come with the page and with each refresh; the
// canvases stay, so that nothing flickers and a tooltip survives.
(() => {
  const charts = new Map();
  const root = () => document.getElementById("lk-dashboard");
  const color = (name) => getComputedStyle(root()).getPropertyValue(name).trim();
  const tones = { good: "--lk-good", warn: "--lk-warn", bad: "--lk-bad" };

  function dataset(line, number, bars) {
    const shade = color(tones[line.tone] ?? `--lk-line-${(number % 6) + 1}`);
    const alone = (at) => line.values[at - 1] == null && line.values[at + 1] == null;
    return {
      label: line.name,
      data: line.values,
      borderColor: shade,
      backgroundColor: shade,
      borderWidth: bars ? 0 : 2,
      // A value between two gaps has no line to be on.
      pointRadius: (context) => (!bars && alone(context.dataIndex) ? 2.5 : 0),
      pointHitRadius: 8,
      stack: bars ? "all" : undefined,
      barPercentage: 0.9,
      categoryPercentage: 1,
    };
  }

  function options(chart) {
    const text = color("--lk-soft");
    const unit = chart.unit ? ` ${chart.unit}` : "";
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      plugins: {
        legend: {
          display: true,
          position: "bottom",
          labels: { color: text, boxWidth: 10, boxHeight: 10 },
        },
        tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${item.formattedValue}${unit}` } },
      },
      scales: {
        x: {
          stacked: chart.bars,
          grid: { display: false },
          ticks: { color: text, maxTicksLimit: 7, maxRotation: 0 },
        },
        y: {
          stacked: chart.bars,
          beginAtZero: true,
          max: chart.most ?? undefined,
          suggestedMax: 1,
          border: { display: false },
          grid: { color: color("--lk-edge") },
          ticks: { color: text, maxTicksLimit: 5, precision: chart.unit ? undefined : 0 },
        },
      },
    };
  }

  function draw() {
    const source = document.getElementById("lk-data");
    if (!source) return;
    const { labels, charts: wanted } = JSON.parse(source.textContent);
    for (const chart of wanted) {
      const canvas = document.getElementById(`lk-chart-${chart.name}`);
      if (!canvas) continue;
      canvas.parentElement.toggleAttribute("data-drawn", !chart.empty);
      const data = { labels, datasets: chart.lines.map((line, number) => dataset(line, number, chart.bars)) };
      const drawn = charts.get(chart.name);
      if (drawn) {
        Object.assign(drawn, { data, options: options(chart) });
        drawn.update("none");
      } else {
        const type = chart.bars ? "bar" : "line";
        charts.set(chart.name, new Chart(canvas, { type, data, options: options(chart) }));
      }
    }
  }

  function watch() {
    if (!root()) return;
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
    document.body.addEventListener("htmx:oobAfterSwap", (event) => {
      if (event.detail.target.id === "lk-data-box") draw();
    });
    // The page says so itself when what it shows is not of now any more.
    document.body.addEventListener("htmx:afterRequest", (event) => {
      root().classList.toggle("lk-stale", !event.detail.successful);
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
