#include "config/keys.h"

#include <fmt/format.h>

#include "config/sections.h"

namespace calque::config {

const Key* Section::find(std::string_view name) const {
  for (const Key& candidate : keys)
    if (candidate.name == name) return &candidate;
  return nullptr;
}

const std::vector<Section>& sections() {
  static const std::vector<Section> all = {top_level(),
                                           model_section(),
                                           calibration_section(),
                                           sources_section(),
                                           quantization_section(),
                                           awq_section(),
                                           rules_section(),
                                           fallback_section(),
                                           export_section(),
                                           runtime_section(),
                                           stages_section(),
                                           evaluate_section(),
                                           evaluate_texts_section(),
                                           kv_cache_section(),
                                           publish_section()};
  return all;
}

const Section* find_section(std::string_view path) {
  for (const Section& section : sections())
    if (section.path == path) return &section;
  return nullptr;
}

std::string join_path(std::string_view section, std::string_view name) {
  return section.empty() ? std::string(name) : fmt::format("{}.{}", section, name);
}

std::vector<const Section*> children_of(const Section& section) {
  std::vector<const Section*> children;
  for (const Section& candidate : sections()) {
    if (candidate.path.empty()) continue;
    const std::size_t dot = candidate.path.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : candidate.path.substr(0, dot);
    if (parent == section.path) children.push_back(&candidate);
  }
  return children;
}

}  // namespace calque::config
