// Simple replacements for components that @grafana/ui does not export, which show whether the panel has data.

import { useEffect, useRef } from "react";
import { getDisplayProcessor } from "@grafana/data";

export function Heatmap({ series, width, height, theme }) {
  const canvas = useRef(null);
  useEffect(() => {
    const bounds = series.map(({ labels, values }) => ({ bound: Number(labels.le.replace("+Inf", "Infinity")), values }));
    bounds.sort((one, other) => one.bound - other.bound);
    // The buckets of a histogram are cumulative.
    const bands = bounds.map(({ bound, values }, index) => ({
      bound,
      counts: values.map((value, at) => (value ?? 0) - (index ? bounds[index - 1].values[at] ?? 0 : 0)),
    }));
    const most = Math.max(1e-9, ...bands.flatMap(({ counts }) => counts));
    const left = 60;
    const context = canvas.current.getContext("2d");
    const [cell, band] = [(width - left) / bands[0].counts.length, (height - 4) / bands.length];
    context.font = "11px sans-serif";
    bands.forEach(({ bound, counts }, row) => {
      const y = height - (row + 1) * band;
      context.fillStyle = theme.colors.text.secondary;
      if (row % 2 === 0) context.fillText(`${bound}s`, 4, y + band / 2 + 4);
      counts.forEach((count, column) => {
        if (count <= 1e-9) return;
        context.fillStyle = `rgba(255, ${160 - 120 * Math.sqrt(count / most)}, 40, ${0.25 + 0.75 * Math.sqrt(count / most)})`;
        context.fillRect(left + column * cell, y + 1, Math.ceil(cell), band - 1);
      });
    });
  }, []);
  return <canvas ref={canvas} width={width} height={height} />;
}

export function Timeline({ panel, series, width, height, theme, config }) {
  const line = Math.min(26, Math.floor(height / Math.max(1, series.length)));
  return series.map(({ name, refId, values }, index) => {
    const field = { name, type: "number", values, config: { ...config(panel, name, refId), color: { mode: "thresholds" } } };
    const display = getDisplayProcessor({ field, theme });
    const left = Math.min(330, width * 0.4);
    const size = (width - left) / values.length;
    return (
      <div key={index} style={{ position: "relative", height: line, fontSize: 12 }}>
        <div style={{ width: left - 8, overflow: "hidden", whiteSpace: "nowrap", textOverflow: "ellipsis", lineHeight: `${line}px` }}>
          {name}
        </div>
        {values.map((value, at) => value === null ? null : (
          <div key={at} style={{ position: "absolute", left: left + at * size, top: 2, height: line - 4, width: size + 0.5,
            background: display(value).color }} />
        ))}
      </div>
    );
  });
}
