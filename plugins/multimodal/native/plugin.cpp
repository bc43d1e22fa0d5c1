// What libmambasdk_multimodal registers.
#include "mambasdk/plugin.hpp"

#include "conversation.hpp"
#include "document.hpp"
#include "emotions.hpp"
#include "score.hpp"

MAMBASDK_PLUGIN_MAIN("mambasdk-multimodal", MAMBASDK_PLUGIN_VERSION, {}, [](mambasdk::plugin::Registrar& registrar) {
  registrar.processor<mambasdk::plugin::Configured<mambasdk::multimodal::Conversation>>();
  registrar.processor<mambasdk::multimodal::Document>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::multimodal::EmotionRecognition>>();
  registrar.head<mambasdk::plugin::Configured<mambasdk::multimodal::Score>>();
});
