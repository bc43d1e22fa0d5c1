// What libmambasdk_medical registers.
#include "mambasdk/plugin.hpp"

#include "medical_image.hpp"
#include "nifti_processors.hpp"
#include "operations.hpp"
#include "segmentation_head.hpp"

MAMBASDK_PLUGIN_MAIN("mambasdk-medical", MAMBASDK_PLUGIN_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  using mambasdk::plugin::Configured;
  namespace medical = mambasdk::medical;
  registrar.processor<medical::MedicalImage>();
  registrar.processor<Configured<medical::NiftiReader>>();
  registrar.processor<Configured<medical::NiftiWriter>>();
  registrar.head<medical::MedicalSegmentation>();
  registrar.op<medical::VolumeResample>();
  registrar.op<medical::VolumeNormalise>();
  registrar.op<medical::VolumeNonzero>();
  registrar.op<medical::ResampledGrid>();
  registrar.op<medical::TileStarts>();
  registrar.op<medical::GaussianMap>();
});
