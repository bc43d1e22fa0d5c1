// What libmambasdk_medical registers.
#include "mambasdk/plugin.hpp"

MAMBASDK_PLUGIN_MAIN("mambasdk-medical", MAMBASDK_PLUGIN_VERSION, {}, [](mambasdk::plugin::Registrar&) {});
