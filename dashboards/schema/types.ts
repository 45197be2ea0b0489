// Grafana's types of a dashboard, and of the kinds of panels that we use. A new kind goes here.

import type { Dashboard, Panel, RowPanel } from "@grafana/schema/dist/types/raw/dashboard/x/types.gen";
import type * as bargauge from "@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen";
import type * as heatmap from "@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen";
import type * as stat from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen";
import type * as statetimeline from "@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen";
import type * as table from "@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen";
import type * as timeseries from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen";

// `fieldConfig` is `fieldConfig.defaults.custom` of the panel; some kinds have none.
export interface All {
  dashboard: Dashboard;
  panel: Panel;
  row: RowPanel;
  bargauge: { options: bargauge.Options };
  heatmap: { options: heatmap.Options; custom: heatmap.FieldConfig };
  stat: { options: stat.Options };
  "state-timeline": { options: statetimeline.Options; custom: statetimeline.FieldConfig };
  table: { options: table.Options; custom: table.FieldConfig };
  timeseries: { options: timeseries.Options; custom: timeseries.FieldConfig };
}
