// What libmambasdk_graph registers.
#include "mambasdk/plugin.hpp"

#include "heads.hpp"
#include "processor.hpp"

MAMBASDK_PLUGIN_MAIN("mambasdk-graph", MAMBASDK_PLUGIN_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::plugin::Configured<mambasdk::graph::GraphProcessor>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::graph::GraphClassification>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::graph::NodeClassification>>();
});
