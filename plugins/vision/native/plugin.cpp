// What libmambasdk_vision registers.
#include "mambasdk/plugin.hpp"

#include "detection_head.hpp"
#include "image_processor.hpp"
#include "mambasdk/plugin/classification.hpp"

namespace mambasdk::vision {

struct ImageClassification : plugin::Classification {
  static constexpr std::string_view kind = "image_classification";
  static constexpr std::string_view doc = "Logits of an image to its best labels.";
  ImageClassification(std::string_view config, std::string_view) : Classification(config, kind) {}
};

}  // namespace mambasdk::vision

MAMBASDK_PLUGIN_MAIN("mambasdk-vision", MAMBASDK_VISION_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::vision::ImageProcessor>();
  registrar.head<mambasdk::vision::ImageClassification>();
  registrar.head<mambasdk::vision::ObjectDetection>();
});
