#include "formats/folder_contents.h"

#include <algorithm>

#include "calque/core/error.h"
#include "formats/module_patterns.h"
#include "formats/packed_format.h"

namespace calque::formats {
namespace {

using Module = FolderContents::Module;

std::optional<ModuleSettings> settings_of(const TensorPlan& planned) {
  if (!planned.grid) return std::nullopt;
  return ModuleSettings{planned.grid->bits,
                        planned.grid->group_size,
                        planned.grid->offset_kind == OffsetKind::kMiddleCode,
                        planned.grid->number,
                        planned.grid->scale_rows,
                        planned.grid->coded_scales(),
                        planned.inputs};
}

// A single group has no order.
bool has_ordered_groups(const TensorPlan& planned) {
  if (!planned.grid || !planned.grid->desc_act) return false;
  const Index inputs = planned.tensor.shape.back();
  return planned.grid->group_size_for(inputs) < inputs;
}

// Escapes the dots of a name for a regular expression.
std::string escaped_dots(const std::string& name) {
  std::string escaped;
  for (const char c : name) escaped += c == '.' ? std::string("\\.") : std::string(1, c);
  return escaped;
}

std::vector<Module> modules_of(const ExportPlan& plan, const model::FamilySpec& family) {
  std::vector<Module> modules;
  if (format_of(plan.request).packed->rounds_embedding)
    modules.push_back(
        {module_of(family.embedding.name), settings_of(plan.at(family.embedding.name))});
  for (const model::BlockSpec& block : family.blocks) {
    for (const model::SiteSpec& site : block.sites)
      for (const model::LinearSpec& linear : site.readers)
        modules.push_back({linear.name, settings_of(plan.at(linear.weight.name))});
    for (const model::TensorSpec& matrix : block.unrounded())
      modules.push_back({module_of(matrix.name), std::nullopt});
  }
  if (family.layer_embeddings)
    modules.push_back({module_of(family.layer_embeddings->projection.name), std::nullopt});
  // A tied head is a Linear of the model, too, though it has no tensor.
  modules.push_back({"lm_head", family.lm_head.empty()
                                    ? std::nullopt
                                    : settings_of(plan.at(family.lm_head.front().name))});
  return modules;
}

}  // namespace

std::vector<std::string> FolderContents::names() const {
  std::vector<std::string> result;
  for (const Module& module : modules) result.push_back(module.name);
  return result;
}

std::vector<std::string> FolderContents::untouched() const {
  std::vector<std::string> result;
  for (const Module& module : modules)
    if (!module.settings) result.push_back(module.name);
  return result;
}

std::vector<std::string> FolderContents::regexes(const std::vector<std::string>& chosen,
                                                 const std::vector<std::string>& all) const {
  std::vector<std::string> result = regexes_of(chosen, all);
  const std::string prefix = escaped_dots(wrapper_prefix);
  for (std::string& regex : result)
    if (!prefix.empty() && regex.starts_with(prefix)) regex.replace(0, prefix.size(), ".*");
  return result;
}

std::vector<std::string> FolderContents::carried_regexes() const {
  std::vector<std::string> result;
  for (const std::string& part : carried) result.push_back(".*" + escaped_dots(part) + "\\..*");
  return result;
}

std::vector<FolderContents::Group> FolderContents::groups() const {
  std::vector<Group> result;
  for (const Module& module : modules) {
    if (!module.settings) continue;
    const auto same = [&](const Group& group) { return group.settings == *module.settings; };
    auto found = std::find_if(result.begin(), result.end(), same);
    if (found == result.end()) found = result.insert(result.end(), {*module.settings, {}});
    found->modules.push_back(module.name);
  }
  const auto smaller = [](const Group& a, const Group& b) {
    return a.modules.size() < b.modules.size();
  };
  const auto largest = std::max_element(result.begin(), result.end(), smaller);
  if (largest != result.end()) std::rotate(result.begin(), largest, std::next(largest));
  return result;
}

FolderContents contents_of(const ExportPlan& plan, const model::FamilySpec& family) {
  FolderContents contents;
  contents.modules = modules_of(plan, family);
  const model::ModelConfig& config = family.config;
  if (!config.wrapper.empty()) contents.wrapper_prefix = config.names.model + ".";
  contents.head = config.names.head;
  contents.carried = model::carried_parts(family);
  contents.checkpoint_format = plan.request.checkpoint_format;
  contents.kv_cache = plan.request.kv_cache;
  const std::vector<FolderContents::Group> groups = contents.groups();
  if (groups.empty())
    throw Error(ErrorKind::kInternal, "",
                "a " + plan.request.format + " plan without a quantized tensor");
  contents.usual = groups.front().settings;
  contents.lm_head = contents.modules.back().settings.has_value();
  contents.all_sym =
      std::all_of(groups.begin(), groups.end(), [](const auto& g) { return g.settings.sym; });
  contents.desc_act = std::any_of(plan.tensors.begin(), plan.tensors.end(), has_ordered_groups);
  return contents;
}

}  // namespace calque::formats
