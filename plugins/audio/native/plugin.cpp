// What libmambasdk_audio registers.
#include "mambasdk/plugin.hpp"

#include "mambasdk/plugin/classification.hpp"
#include "processors.hpp"

namespace mambasdk::audio {

struct AudioClassification : plugin::Classification {
  static constexpr std::string_view kind = "audio_classification";
  static constexpr std::string_view doc = "Logits of a clip to its best labels.";
  using Classification::Classification;
};

}  // namespace mambasdk::audio

MAMBASDK_PLUGIN_MAIN("mambasdk-audio", MAMBASDK_PLUGIN_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::plugin::Configured<mambasdk::audio::WaveformProcessor>>();
  registrar.processor<mambasdk::plugin::Configured<mambasdk::audio::FbankProcessor>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::audio::AudioClassification>>();
});
