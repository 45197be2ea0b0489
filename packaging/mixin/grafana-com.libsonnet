// The dashboards as grafana.com publishes them: with `__inputs`, for which an import asks, and `__requires`.
//
//   jsonnet --multi FOLDER packaging/mixin/grafana-com.libsonnet
local dashboards = (import 'mixin.libsonnet').grafanaDashboards;
local input = 'DS_PROMETHEUS';

// Rows of a dashboard can contain panels.
local types(panels) = std.flattenArrays([[panel.type] + types(std.get(panel, 'panels', [])) for panel in panels]);

local publish(dashboard) = dashboard {
  __inputs: [{
    name: input,
    label: 'Prometheus',
    description: 'The Prometheus that scrapes the backends and the sidecar of txnscope',
    type: 'datasource',
    pluginId: 'prometheus',
    pluginName: 'Prometheus',
  }],
  __requires: [
    { type: 'grafana', id: 'grafana', name: 'Grafana', version: '10.0.0' },
    { type: 'datasource', id: 'prometheus', name: 'Prometheus', version: '1.0.0' },
  ] + [
    { type: 'panel', id: type, name: type, version: '' }
    for type in std.set(types(dashboard.panels))
    if type != 'row'
  ],
  // grafana.com assigns the number.
  id: null,
  templating+: {
    list: [
      if variable.type == 'datasource' then variable { current: { text: 'Prometheus', value: '${%s}' % input } } else variable
      for variable in dashboard.templating.list
    ],
  },
};

{ [file]: publish(dashboards[file]) for file in std.objectFields(dashboards) }
