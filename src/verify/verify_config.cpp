// What quantization_config means against what is stored.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "verify/verify_parts.h"

namespace calque::verify {
namespace {

// Linears that decide which expert a token goes to: loaders keep them as they are.
bool is_router(const std::string& module) {
  constexpr std::string_view kEndings[] = {".mlp.gate", ".block_sparse_moe.gate", ".router",
                                           ".shared_expert_gate"};
  return std::any_of(std::begin(kEndings), std::end(kEndings),
                     [&](std::string_view ending) { return module.ends_with(ending); });
}

bool is_in_block(const std::string& module) {
  return module.find(".layers.") != std::string::npos || module.starts_with("layers.");
}

// Linears that are stored unpacked.
std::set<std::string> dense_linears(const LooseTensors& tensors) {
  std::set<std::string> result;
  for (const auto& [name, tensor] : tensors.by_name) {
    if (!name.ends_with(".weight") || tensor->shape.size() != 2) continue;
    const std::string module = name.substr(0, name.size() - std::string(".weight").size());
    if (module == "lm_head" || is_in_block(module)) result.insert(module);
  }
  return result;
}

Index group_count(Index K, Index group_size) {
  return group_size < 1 ? 1 : K / group_size + (K % group_size != 0 ? 1 : 0);
}

std::string packed_text(const StoredModule& module) {
  return fmt::format("{} bits, {} groups", module.bits, module.groups);
}

class ConfigCheck {
 public:
  ConfigCheck(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
              Findings& findings)
      : tensors_(tensors), modules_(modules), findings_(findings) {}

  void against(const MeantModules& meant) {
    for (const StoredModule& module : modules_) check_packed(module, meant);
    if (tensors_.complete)
      for (const std::string& name : dense_linears(tensors_)) check_dense(name, meant);
  }

  void routers() {
    for (const StoredModule& module : modules_)
      if (is_router(module.name))
        findings_.fault("config", fmt::format("'{}' is a router and stored packed; loaders expect "
                                              "'{}.weight'. Skip routers when quantizing.",
                                              module.name, module.name));
  }

  // Runtimes load these as one matrix.
  void fused_parts() {
    std::map<std::string, std::string> stored;  // module -> how
    for (const StoredModule& module : modules_) stored[module.name] = packed_text(module);
    for (const std::string& name : dense_linears(tensors_)) stored.emplace(name, "not packed");
    compare_fused(stored, {".q_proj", ".k_proj", ".v_proj"});
    compare_fused(stored, {".gate_proj", ".up_proj"});
    compare_fused(stored, {".w1", ".w3"});
  }

 private:
  void check_packed(const StoredModule& module, const MeantModules& meant) {
    const std::optional<MeantSettings> settings = meant.of(module.name);
    if (!settings)
      return findings_.fault("config",
                             fmt::format("'{}' is stored packed, but quantization_config leaves it "
                                         "alone. Correct the rule or the ignore list.",
                                         module.name));
    if (settings->bits != module.bits)
      findings_.fault("config", fmt::format("'{}' is stored with {} bits, quantization_config says "
                                            "{}. Correct the settings of this module.",
                                            module.name, module.bits, settings->bits));
    if (group_count(module.K, settings->group_size) != module.groups)
      findings_.fault("config",
                      fmt::format("'{}' has {} inputs in {} groups, quantization_config says "
                                  "group_size {}: {} groups. Correct the settings of this module.",
                                  module.name, module.K, module.groups, settings->group_size,
                                  group_count(module.K, settings->group_size)));
  }

  void check_dense(const std::string& name, const MeantModules& meant) {
    if (!meant.of(name)) return;
    // Some loaders know these by their class, others ask for the list.
    if (is_router(name) || name == "lm_head")
      return findings_.warning("config", fmt::format("'{}' is not packed, but quantization_config "
                                                     "does not say so; some loaders will look for "
                                                     "packed tensors.",
                                                     name));
    findings_.fault("config",
                    fmt::format("quantization_config means '{}' to be packed, but it is "
                                "stored as '{}.weight'. Add it to the rules or the ignore "
                                "list.",
                                name, name));
  }

  void compare_fused(const std::map<std::string, std::string>& stored,
                     const std::vector<std::string>& endings) {
    for (const auto& [name, how] : stored) {
      if (!name.ends_with(endings.front())) continue;
      const std::string parent = name.substr(0, name.size() - endings.front().size());
      for (const std::string& ending : endings) {
        const auto other = stored.find(parent + ending);
        if (other != stored.end() && other->second != how)
          findings_.warning("config",
                            fmt::format("'{}' ({}) and '{}' ({}) differ; vLLM and SGLang load them "
                                        "as one matrix and will refuse",
                                        name, how, other->first, other->second));
      }
    }
  }

  const LooseTensors& tensors_;
  const std::vector<StoredModule>& modules_;
  Findings& findings_;
};

}  // namespace

void check_config(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
                  const MeantModules* meant, Findings& findings) {
  const std::size_t before = findings.faults();
  ConfigCheck check(tensors, modules, findings);
  if (meant != nullptr) check.against(*meant);
  if (meant == nullptr && !modules.empty())
    findings.fault("config", fmt::format("{} modules are stored packed ('{}', ...), but no "
                                         "quantization_config that calque knows describes them",
                                         modules.size(), modules.front().name));
  if (meant != nullptr && modules.empty() && tensors.complete)
    findings.fault("config", "there is a quantization_config, but no module is stored packed");
  check.routers();
  check.fused_parts();
  if (findings.faults() == before)
    findings.ok("config", meant == nullptr
                              ? "a plain checkpoint: no quantization_config, nothing packed"
                              : fmt::format("quantization_config means the {} modules that are "
                                            "packed",
                                            modules.size()));
}

}  // namespace calque::verify
