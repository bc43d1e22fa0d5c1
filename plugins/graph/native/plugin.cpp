// What libmambasdk_graph registers.
#include "mambasdk/plugin.hpp"

#include "heads.hpp"
#include "processor.hpp"

MAMBASDK_PLUGIN_MAIN("mambasdk-graph", MAMBASDK_GRAPH_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::graph::GraphProcessor>();
  registrar.head<mambasdk::graph::GraphClassification>();
  registrar.head<mambasdk::graph::NodeClassification>();
});
