// A dashboard on one page: Grafana's own components where they are exported, stand-ins where they are not.

import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { ThemeContext, createTheme, dateTime, getDisplayProcessor, getFieldSeriesColor } from "@grafana/data";
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries } from "@grafana/ui";

import { ask, config, frames, rows } from "./data.js";
import { Heatmap, Timeline } from "./standins.jsx";

const theme = createTheme({ colors: { mode: "dark" } });
const query = new URLSearchParams(location.search);
const options = {
  minutes: Number(query.get("minutes")),
  operation: query.get("operation"),
  to: Number(query.get("until")) || Math.floor(Date.now() / 1000) - 2,
};
const [CELL, GAP, WIDTH] = [30, 8, 1584];
const from = dateTime((options.to - options.minutes * 60) * 1000);
const timeRange = { from, to: dateTime(options.to * 1000), raw: { from: "now-5m", to: "now" } };

const GRAPH = {
  drawStyle: "line", lineInterpolation: "linear", barAlignment: 0, barWidthFactor: 0.6, lineWidth: 1, fillOpacity: 0,
  gradientMode: "none", spanNulls: false, insertNulls: false, showPoints: "never", pointSize: 5, axisPlacement: "auto",
  axisColorMode: "text", axisLabel: "", scaleDistribution: { type: "linear" }, axisCenteredZero: false,
  hideFrom: { tooltip: false, viz: false, legend: false }, thresholdsStyle: { mode: "off" },
  stacking: { mode: "none", group: "A" },
};

function Stat({ panel, series, width, height }) {
  const kept = series[0];
  const last = kept?.values.findLast((value) => value !== null && !Number.isNaN(value)) ?? null;
  const [frame] = frames(panel, [kept ?? { name: "", labels: {}, refId: "A", times: [0], values: [null] }], theme);
  const field = frame.fields[1];
  field.config.color = { mode: "thresholds" };
  const value = getDisplayProcessor({ field, theme })(last);
  if (panel.options.textMode === "name") value.text = kept?.name ?? "";
  if (panel.options.textMode === "name") value.suffix = undefined;
  const sparkline = panel.options.graphMode === "area" && kept
    ? { y: field, x: frame.fields[0], timeRange }
    : undefined;
  return (
    <BigValue theme={theme} width={width} height={height} value={value} sparkline={sparkline}
      colorMode={panel.options.colorMode} graphMode={panel.options.graphMode}
      justifyMode={panel.options.justifyMode} textMode="value" />
  );
}

function Bars({ panel, series, width, height }) {
  const most = Math.max(1, ...series.map(({ values }) => values[0]));
  return frames(panel, series, theme).map((frame, index) => {
    const field = frame.fields[1];
    const value = { ...field.display(field.values[0]), title: series[index].name };
    value.color = getFieldSeriesColor(field, theme).color;
    return (
      <BarGauge key={index} theme={theme} width={width} height={Math.floor(height / series.length)} value={value}
        field={{ ...field.config, min: 0, max: most, color: { mode: "fixed", fixedColor: value.color } }}
        display={field.display} orientation="horizontal" displayMode={panel.options.displayMode} itemSpacing={4} />
    );
  });
}

function Lines({ panel, series, width, height }) {
  const made = frames(panel, series, theme);
  for (const frame of made) {
    const field = frame.fields[1];
    field.config.custom = { ...GRAPH, ...field.config.custom };
  }
  const legend = { ...panel.options.legend, calcs: panel.options.legend.calcs ?? [] };
  return (
    <TimeSeries frames={made} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={legend}
      structureRev={1} />
  );
}

function Inside({ panel, series, width, height }) {
  const common = { panel, series, width, height, theme };
  switch (panel.type) {
    case "stat": return <Stat {...common} />;
    case "bargauge": return <Bars {...common} />;
    case "timeseries": return <Lines {...common} />;
    case "table": return <Table data={rows(panel, series, theme)} width={width} height={height} />;
    case "heatmap": return <Heatmap {...common} />;
    case "state-timeline": return <Timeline {...common} config={config} />;
    default: throw new Error(`there is nothing to draw a ${panel.type} with`);
  }
}

function Panel({ panel, top, series }) {
  const { x, y, w, h } = panel.gridPos;
  const unit = (WIDTH + GAP) / 24;
  const box = {
    position: "absolute", left: x * unit, top: (y - top) * (CELL + GAP), width: w * unit - GAP, height: h * (CELL + GAP) - GAP,
  };
  const standIn = ["heatmap", "state-timeline"].includes(panel.type) ? " (stand-in)" : "";
  const title = panel.title + standIn;
  const none = series.every(({ values }) => values.every((value) => value === null || Number.isNaN(value)));
  return (
    <div style={box}>
      <PanelChrome title={title} width={box.width} height={box.height} padding={panel.type === "table" ? "none" : "md"}>
        {(width, height) => none && panel.type !== "stat"
          ? <div style={{ color: theme.colors.text.secondary, textAlign: "center", paddingTop: height / 3 }}>No data</div>
          : <Inside panel={panel} series={series} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function Dashboard({ page, answers, wanted }) {
  const shown = page.panels.filter((item) => !wanted || item.row === wanted);
  const top = Math.min(...shown.map((item) => item.gridPos.y));
  const bottom = Math.max(...shown.map((item) => item.gridPos.y + item.gridPos.h));
  return (
    <div style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary, padding: 8,
      fontFamily: theme.typography.fontFamily, fontSize: 14 }}>
      <div style={{ padding: "2px 4px 8px", fontSize: 16 }}>
        {page.title} <span style={{ color: theme.colors.text.secondary, fontSize: 12 }}>preview, not Grafana</span>
      </div>
      <div style={{ position: "relative", width: WIDTH, height: (bottom - top) * (CELL + GAP) }}>
        {shown.map((item) => item.type === "row"
          ? <div key={item.id} style={{ position: "absolute", top: (item.gridPos.y - top) * (CELL + GAP), padding: 6, fontWeight: 500 }}>
              {(item.collapsed ? "› " : "⌄ ") + item.title.replace("$operation", options.operation)}
            </div>
          : <Panel key={item.id} panel={item} top={top} series={answers.get(item.id)} />)}
      </div>
    </div>
  );
}

function App() {
  const [state, keep] = useState();
  useEffect(() => {
    (async () => {
      const page = await (await fetch(`/dashboards/${query.get("uid")}`)).json();
      let row;
      for (const item of page.panels) item.row = row = item.type === "row" ? item.title : row;
      const panels = page.panels.filter((item) => item.type !== "row");
      const asked = panels.map(async (panel) => {
        const series = await Promise.all(panel.targets.map((target) => ask(target, options)));
        return [panel.id, series.flat()];
      });
      const answers = new Map(await Promise.all(asked));
      keep({ page, answers });
      const empty = panels.filter((panel) => answers.get(panel.id).length === 0).map((panel) => panel.title);
      // The canvases are drawn in the frames that follow.
      setTimeout(() => { window.drawn = { panels: panels.length, empty }; }, 2500);
    })();
  }, []);
  return state ? <Dashboard {...state} wanted={query.get("row")} /> : null;
}

document.body.style.margin = 0;
createRoot(document.getElementById("root")).render(
  <ThemeContext.Provider value={theme}><GlobalStyles /><App /></ThemeContext.Provider>,
);
