// The queries of a panel, and their results in the format of Grafana's components.

import { FieldType, ThresholdsMode, getDisplayProcessor, stringToJsRegex, toDataFrame } from "@grafana/data";

/** The query with its variables resolved, over the given minutes. */
export function sent(query, operation, minutes) {
  let text = query.replaceAll("$__rate_interval", "30s").replaceAll("$__range", `${minutes}m`);
  // All values of each variable, also where the label is not there.
  text = text.replace(/=~"\$\w+"/g, '=~".*"');
  return text.replaceAll('="$operation"', `="${operation}"`);
}

async function api(path, parameters) {
  const answer = await (await fetch(`/api/v1/${path}?${new URLSearchParams(parameters)}`)).json();
  if (answer.status !== "success") throw new Error(answer.error);
  return answer.data;
}

/** Series of a query: its legend, its labels, times in milliseconds, values. */
export async function ask(target, options) {
  const query = sent(target.expr, options.operation, options.minutes);
  if (target.instant) {
    const { resultType, result } = await api("query", { query, time: options.to });
    const series = resultType === "scalar" ? [{ metric: {}, value: result }] : result;
    return series.map(({ metric, value }) => named(target, metric, [value[0] * 1000], [Number(value[1])]));
  }
  const step = Math.max(1, Math.round((options.minutes * 60) / 150));
  const range = { query, start: options.to - options.minutes * 60, end: options.to, step };
  const { result } = await api("query_range", range);
  const times = [];
  for (let time = range.start; time <= range.end; time += step) times.push(time);
  return result.map(({ metric, values }) => {
    const found = new Map(values.map(([time, value]) => [Math.round(time), Number(value)]));
    // A missing sample is a gap.
    const line = times.map((time) => found.get(Math.round(time)) ?? null);
    return named(target, metric, times.map((time) => time * 1000), line);
  });
}

function named(target, labels, times, values) {
  const legend = target.legendFormat === "__auto" ? JSON.stringify(labels) : target.legendFormat;
  const name = legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "").trim();
  return { name, labels, refId: target.refId, times, values };
}

/** The configuration of a field: the panel's defaults, and the overrides by name or query. */
export function config(panel, name, refId) {
  const { defaults, overrides } = panel.fieldConfig;
  const made = structuredClone(defaults);
  made.custom ??= {};
  made.thresholds ??= { mode: ThresholdsMode.Absolute, steps: [{ color: "green", value: null }] };
  for (const { matcher, properties } of overrides) {
    const matches = {
      byName: () => matcher.options === name,
      byRegexp: () => stringToJsRegex(matcher.options).test(name),
      byFrameRefID: () => matcher.options === refId,
    }[matcher.id]();
    if (!matches) continue;
    for (const { id, value } of properties) {
      if (id.startsWith("custom.")) made.custom[id.slice("custom.".length)] = value;
      else made[id] = value;
    }
  }
  // The components look for the lowest bound as a number.
  for (const step of made.thresholds.steps) step.value ??= -Infinity;
  made.color ??= { mode: "palette-classic" };
  return made;
}

/** A frame for each series, with colors and units. */
export function frames(panel, series, theme) {
  return series.map(({ name, labels, refId, times, values }, index) => {
    const frame = toDataFrame({
      refId,
      fields: [
        { name: "Time", type: FieldType.time, values: times, config: {} },
        { name, type: FieldType.number, values, labels, config: { ...config(panel, name, refId), displayName: name } },
      ],
    });
    for (const field of frame.fields) {
      field.state = { seriesIndex: index, displayName: field.name };
      field.display = getDisplayProcessor({ field, theme });
    }
    return frame;
  });
}

/** One frame of a table: a row for each set of labels, columns by the names that the panel gives them. */
export function rows(panel, series, theme) {
  const { renameByName: names, indexByName: order } = panel.transformations.find(({ id }) => id === "organize").options;
  const columns = Object.keys(names).sort((one, other) => order[one] - order[other]);
  const isNumber = (column) => column.startsWith("Value");
  // Like Grafana: joined by the labels that all queries have.
  const shared = Object.keys(series[0].labels).filter((label) => series.every(({ labels }) => label in labels));
  const joined = new Map();
  for (const { labels, refId, values } of series) {
    const key = JSON.stringify(shared.map((label) => labels[label]));
    const row = { ...joined.get(key), ...labels };
    row["Value" in names ? "Value" : `Value #${refId}`] = values[0];
    joined.set(key, row);
  }
  const { displayName, desc } = panel.options.sortBy[0];
  const by = columns.find((column) => names[column] === displayName);
  const sorted = [...joined.values()].sort((one, other) => (one[by] > other[by] ? 1 : -1) * (desc ? -1 : 1));
  const frame = toDataFrame({
    fields: columns.map((column) => ({
      name: names[column],
      type: isNumber(column) ? FieldType.number : FieldType.string,
      values: sorted.map((row) => row[column] ?? null),
      config: { ...config(panel, names[column]), color: { mode: "thresholds" } },
    })),
  });
  for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme });
  return frame;
}
