#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config/codec.h"
#include "config/keys.h"

namespace calque::config {

// Helpers for the tables of keys. A key is a name, a codec, a field of its section's struct and a
// line of documentation. `calque schema` and configs/README.md are generated from the tables.

// `field` maps S* to V*, also for const S. The default is the value in a new S.
template <typename S, typename V, typename Field>
Key key_of(std::string name, const Codec<V>& codec, Field field, std::string doc) {
  Key result;
  result.name = std::move(name);
  result.type = codec.type;
  result.doc = std::move(doc);
  const S defaults{};
  result.default_value = codec.show(*field(&defaults));
  result.values = codec.values;
  result.store = [codec, field](const YamlNode& node, const std::filesystem::path& folder,
                                void* target) {
    return codec.parse(node, folder, *field(static_cast<S*>(target)));
  };
  result.show = [codec, field](const void* target) {
    return codec.show(*field(static_cast<const S*>(target)));
  };
  return result;
}

template <typename S, typename V>
Key key(std::string name, const Codec<V>& codec, V S::*member, std::string doc) {
  return key_of<S>(
      std::move(name), codec, [member](auto* s) { return &(s->*member); }, std::move(doc));
}

// A member of a member.
template <typename S, typename M, typename V>
Key key(std::string name, const Codec<V>& codec, M S::*outer, V M::*inner, std::string doc) {
  return key_of<S>(
      std::move(name), codec, [outer, inner](auto* s) { return &(s->*outer.*inner); },
      std::move(doc));
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

// A section with one struct; `place` maps Job* (or const Job*) to a pointer to it.
template <typename Place>
void one(Section& section, Place place) {
  section.open = [place](job::Job& job) -> void* { return place(job); };
  section.instances = [place](const job::Job& job) { return std::vector<const void*>{place(job)}; };
}

// A list of sections, which may be missing.
template <typename Place>
void many(Section& section, Place place) {
  section.list = true;
  section.open = [place](job::Job& job) -> void* { return &place(job)->emplace_back(); };
  section.instances = [place](const job::Job& job) {
    std::vector<const void*> pointers;
    if (const auto* items = place(job))
      for (const auto& item : *items) pointers.push_back(&item);
    return pointers;
  };
}

template <typename V>
V* in_evaluation(job::Job& job, V job::EvaluationSettings::*member) {
  if (!job.evaluate) job.evaluate.emplace();
  return &(*job.evaluate.*member);
}
template <typename V>
const V* in_evaluation(const job::Job& job, V job::EvaluationSettings::*member) {
  return job.evaluate ? &(*job.evaluate.*member) : nullptr;
}

// The sections that define the stored numbers and the files.
Section quantization_section();
Section allocation_section();
Section awq_section();
Section smoothquant_section();
Section rules_section();
Section fallback_section();
Section export_section();

}  // namespace calque::config
