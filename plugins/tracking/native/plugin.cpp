// What libmambasdk_tracking registers.
#include "mambasdk/plugin.hpp"

#include "kinds.hpp"
#include "operations.hpp"

MAMBASDK_PLUGIN_MAIN("mambasdk-tracking", MAMBASDK_PLUGIN_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::plugin::Configured<mambasdk::tracking::DetectionsProcessor>>();
  registrar.head<mambasdk::tracking::TrackerHead>();
  registrar.head<mambasdk::tracking::MotionTrackerHead>();
  registrar.op<mambasdk::tracking::LinearAssignment>();
  registrar.op<mambasdk::tracking::KalmanPredict>();
  registrar.op<mambasdk::tracking::KalmanUpdate>();
});
