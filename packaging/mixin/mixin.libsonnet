// The rules and the dashboards as a monitoring mixin (https://monitoring.mixins.dev). It reads alerts/rules and dashboards/ of
// this repository, so that there is one source of each; `_config` has what differs between installations.
//
//   (import 'packaging/mixin/mixin.libsonnet') + { _config+:: { grafanaUrl: 'https://grafana.example.net' } }
local parse(text) = std.parseYaml(text).groups;
local files = {
  objectives: parse(importstr '../../alerts/rules/objectives.yml'),
  recording: parse(importstr '../../alerts/rules/recording.yml'),
  transactions: parse(importstr '../../alerts/rules/transactions.yml'),
  mongodb: parse(importstr '../../alerts/rules/mongodb.yml'),
  consistency: parse(importstr '../../alerts/rules/consistency.yml'),
  txnscope: parse(importstr '../../alerts/rules/txnscope.yml'),
};
local expectedJob = 'txnscope:expected:job';

{
  _config:: {
    // The Grafana, and the folder of the runbooks, in the links of the alerts.
    grafanaUrl: 'https://grafana.example.com',
    runbookUrl: 'https://github.com/txnscope/txnscope/blob/main/alerts/runbooks',
    // Objectives and thresholds by the last part of their name in alerts/rules/objectives.yml: { success_ratio: 0.999 }
    objectives: {},
    // The Prometheus jobs that must exist: [{ job: 'shop', kind: 'backend' }]. Null: those of alerts/rules/objectives.yml.
    jobs: null,
  },

  local config = $._config,
  local name(rule) = local parts = std.split(std.get(rule, 'record', ''), ':'); parts[std.length(parts) - 1],
  local names = std.set([name(rule) for group in files.objectives for rule in group.rules]),
  local unknown = std.setDiff(std.set(std.objectFields(config.objectives)), names),

  local objective(rule) =
    if std.objectHas(config.objectives, name(rule)) then rule { expr: 'vector(%s)' % config.objectives[name(rule)] } else rule,
  local jobs(rules) =
    if config.jobs == null then rules
    else [rule for rule in rules if rule.record != expectedJob]
         + [{ record: expectedJob, labels: job, expr: 'vector(1)' } for job in config.jobs],
  local link(text) = std.strReplace(
    std.strReplace(text, 'https://grafana.example.com', config.grafanaUrl),
    'https://github.com/txnscope/txnscope/blob/main/alerts/runbooks',
    config.runbookUrl
  ),
  local links(rule) =
    if std.objectHas(rule, 'annotations') then rule { annotations: std.mapWithKey(function(_, text) link(text), rule.annotations) }
    else rule,

  // Alerts and recording rules are separate files; a group with both kinds is with the alerts.
  prometheusRules+:: {
    assert unknown == [] : 'alerts/rules/objectives.yml has no objective or threshold ' + std.join(', ', unknown),
    groups+: [group { rules: jobs(std.map(objective, group.rules)) } for group in files.objectives] + files.recording,
  },
  prometheusAlerts+:: {
    groups+: [
      group { rules: std.map(links, group.rules) }
      for file in ['transactions', 'mongodb', 'consistency', 'txnscope']
      for group in files[file]
    ],
  },
  grafanaDashboards+:: {
    'txnscope-overview.json': import '../../dashboards/txnscope-overview.json',
    'txnscope-operation.json': import '../../dashboards/txnscope-operation.json',
    'txnscope-server.json': import '../../dashboards/txnscope-server.json',
    'txnscope-consistency.json': import '../../dashboards/txnscope-consistency.json',
    'txnscope-self.json': import '../../dashboards/txnscope-self.json',
  },
}
