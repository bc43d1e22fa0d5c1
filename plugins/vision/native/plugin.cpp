// What libmambasdk_vision registers.
#include "mambasdk/plugin.hpp"

#include "bottom_up_head.hpp"
#include "detection_head.hpp"
#include "image_processor.hpp"
#include "mambasdk/plugin/classification.hpp"
#include "mask_processor.hpp"
#include "person_crop.hpp"
#include "pose_head.hpp"
#include "segmentation_head.hpp"

namespace mambasdk::vision {

struct ImageClassification : plugin::Classification {
  static constexpr std::string_view kind = "image_classification";
  static constexpr std::string_view doc = "Logits of an image to its best labels.";
  using Classification::Classification;
};

}  // namespace mambasdk::vision

MAMBASDK_PLUGIN_MAIN("mambasdk-vision", MAMBASDK_PLUGIN_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::plugin::Configured<mambasdk::vision::ImageProcessor>>();
  registrar.processor<mambasdk::plugin::Configured<mambasdk::vision::MaskProcessor>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::vision::ImageClassification>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::vision::ObjectDetection>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::vision::SemanticSegmentation>>();
  registrar.processor<mambasdk::plugin::Configured<mambasdk::vision::PersonCrop>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::vision::PoseEstimation>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::vision::BottomUpPose>>();
});
