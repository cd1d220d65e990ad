#pragma once

#include <fmt/format.h>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "config/codec.h"
#include "config/keys.h"

namespace calque::config {

// How the tables of keys are written: a key is a codec and a field of the section's struct.

// `field`: S& -> V&. The default is what a new S holds.
template <typename S, typename V, typename Field>
Key key(std::string name, const Codec<V>& codec, Field field, std::string doc) {
  Key result;
  result.name = std::move(name);
  result.type = codec.type;
  result.doc = std::move(doc);
  result.default_value = codec.show(field(S{}));
  result.store = [codec, field](const YamlNode& node, const std::filesystem::path& folder,
                                void* target) {
    return codec.parse(node, folder, const_cast<V&>(field(*static_cast<const S*>(target))));
  };
  result.show = [codec, field](const void* target) {
    return codec.show(field(*static_cast<const S*>(target)));
  };
  return result;
}

inline Key required(Key key) {
  key.default_value.clear();
  return key;
}

inline Key with_default(Key key, std::string in_words) {
  key.default_value = std::move(in_words);
  return key;
}

template <typename S>
Key only_when(Key key, std::string when, bool (*applies)(const S&)) {
  key.applies_when = std::move(when);
  key.applies = [applies](const void* target) { return applies(*static_cast<const S*>(target)); };
  return key;
}

template <typename S>
std::vector<const void*> pointers_to(const std::vector<S>& items) {
  std::vector<const void*> pointers;
  for (const S& item : items) pointers.push_back(&item);
  return pointers;
}

// One table each, in the order of the job file.
Section top_level();
Section model_section();
Section calibration_section();
Section sources_section();
Section quantization_section();
Section awq_section();
Section rules_section();
Section fallback_section();
Section export_section();
Section runtime_section();
Section stages_section();
Section evaluate_section();
Section evaluate_texts_section();
Section kv_cache_section();
Section publish_section();

}  // namespace calque::config
