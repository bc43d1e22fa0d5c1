// What libmambasdk_audio registers.
#include "mambasdk/plugin.hpp"

#include "mambasdk/plugin/classification.hpp"
#include "processors.hpp"

namespace mambasdk::audio {

struct AudioClassification : plugin::Classification {
  static constexpr std::string_view kind = "audio_classification";
  static constexpr std::string_view doc = "Logits of a clip to its best labels.";
  AudioClassification(std::string_view config, std::string_view) : Classification(config, kind) {}
};

}  // namespace mambasdk::audio

MAMBASDK_PLUGIN_MAIN("mambasdk-audio", MAMBASDK_AUDIO_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::audio::WaveformProcessor>();
  registrar.processor<mambasdk::audio::FbankProcessor>();
  registrar.head<mambasdk::audio::AudioClassification>();
});
