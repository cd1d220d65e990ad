// Checks the modules of a folder: stored tensors, their description in quantization_config, values.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "verify/verify_parts.h"

namespace calque::verify {
namespace {

using formats::ConfiguredModules;
using formats::ConfiguredSettings;
using formats::StoredModule;

// ---- quantization_config against the stored modules

// Linears that route tokens to experts; loaders leave them unquantized.
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
std::set<std::string> dense_linears(const LooseTensors& tensors,
                                    const std::vector<StoredModule>& modules) {
  std::set<std::string> result;
  for (const auto& [name, tensor] : tensors.by_name) {
    if (!name.ends_with(".weight") || tensor->shape.size() != 2) continue;
    const std::string module = name.substr(0, name.size() - std::string(".weight").size());
    if (module.ends_with("lm_head") || is_in_block(module)) result.insert(module);
  }
  for (const StoredModule& module : modules)
    if (module.codes != nullptr) result.erase(module.name);
  return result;
}

Index group_count(Index K, Index group_size) {
  return group_size < 1 ? 1 : K / group_size + (K % group_size != 0 ? 1 : 0);
}

std::string packed_text(const StoredModule& module) {
  return fmt::format("{} bits{}, {} groups", module.bits, module.number ? " (float)" : "",
                     module.groups);
}

// "integers", "floating-point numbers, a scale a matrix".
std::string kind_text(const std::optional<SmallFloat>& number, Index scale_rows,
                      const std::optional<ScalePrecision>& coded_scales) {
  return fmt::format("{}{}{}", number ? "floating-point numbers" : "integers",
                     !coded_scales                            ? ""
                     : *coded_scales == ScalePrecision::kE4M3 ? " with FP8 scales"
                                                              : " with powers of two as scales",
                     scale_rows < 0   ? ", a scale a matrix"
                     : scale_rows > 1 ? fmt::format(", a scale {} rows", scale_rows)
                                      : "");
}

class ConfigCheck {
 public:
  ConfigCheck(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
              Findings& findings)
      : tensors_(tensors), modules_(modules), findings_(findings) {}

  void against(const ConfiguredModules& configured) {
    for (const StoredModule& module : modules_) check_packed(module, configured);
    if (tensors_.complete && !configured.tensors_decide())
      for (const std::string& name : dense_linears(tensors_, modules_))
        check_dense(name, configured);
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
    for (const std::string& name : dense_linears(tensors_, modules_))
      stored.emplace(name, "not packed");
    compare_fused(stored, {".q_proj", ".k_proj", ".v_proj"});
    compare_fused(stored, {".gate_proj", ".up_proj"});
    compare_fused(stored, {".w1", ".w3"});
  }

 private:
  void check_packed(const StoredModule& module, const ConfiguredModules& configured) {
    const std::optional<ConfiguredSettings> settings = configured.of(module.name);
    if (!settings)
      return findings_.fault("config",
                             fmt::format("'{}' is stored packed, but quantization_config excludes "
                                         "it. Correct the rule or the ignore list.",
                                         module.name));
    if (settings->number != module.number || settings->scale_rows != module.scale_rows ||
        settings->coded_scales != module.coded_scales)
      return findings_.fault(
          "config",
          fmt::format("'{}' is stored as {}, but quantization_config says {}. Correct the "
                      "settings of this module.",
                      module.name, kind_text(module.number, module.scale_rows, module.coded_scales),
                      kind_text(settings->number, settings->scale_rows, settings->coded_scales)));
    // A byte holds integers of fewer bits, too.
    const bool fits_a_byte = module.codes != nullptr && settings->bits <= module.bits;
    if (settings->bits != module.bits && !fits_a_byte)
      findings_.fault("config", fmt::format("'{}' is stored with {} bits, but quantization_config "
                                            "says {}. Correct the settings of this module.",
                                            module.name, module.bits, settings->bits));
    if (group_count(module.K, settings->group_size) != module.groups)
      findings_.fault("config",
                      fmt::format("'{}' has {} inputs in {} groups, but quantization_config says "
                                  "group_size {}: {} groups. Correct the settings of this module.",
                                  module.name, module.K, module.groups, settings->group_size,
                                  group_count(module.K, settings->group_size)));
  }

  void check_dense(const std::string& name, const ConfiguredModules& configured) {
    if (!configured.of(name)) return;
    // Some loaders know these by their class, others need them in the list.
    if (is_router(name) || name.ends_with("lm_head"))
      return findings_.warning("config", fmt::format("'{}' is not packed, but quantization_config "
                                                     "does not say so; some loaders will look for "
                                                     "packed tensors.",
                                                     name));
    findings_.fault("config",
                    fmt::format("quantization_config declares '{}' packed, but it is stored as "
                                "'{}.weight'. Add it to the rules or the ignore "
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

void check_config(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
                  const ConfiguredModules* configured, Findings& findings) {
  const std::size_t before = findings.faults();
  ConfigCheck check(tensors, modules, findings);
  if (configured != nullptr) check.against(*configured);
  if (configured == nullptr && !modules.empty())
    findings.fault("config", fmt::format("{} modules are stored packed ('{}', ...), but no "
                                         "quantization_config that calque knows describes them",
                                         modules.size(), modules.front().name));
  if (configured != nullptr && modules.empty() && tensors.complete)
    findings.fault("config", "there is a quantization_config, but no module is stored packed");
  if (configured == nullptr || !configured->tensors_decide()) {
    check.routers();
    check.fused_parts();
  }
  if (findings.faults() == before)
    findings.ok("config", configured == nullptr
                              ? "a plain checkpoint: no quantization_config, nothing packed"
                              : fmt::format("quantization_config describes the {} packed modules",
                                            modules.size()));
}

// ---- Values of the tensors

// Number of elements widened at a time, so that an embedding needs no full copy.
constexpr std::size_t kChunk = std::size_t{1} << 16;

std::string place_of(const io::TensorRef& tensor, std::size_t element) {
  if (tensor.shape.size() != 2) return fmt::format("[{}]", element);
  const auto columns = static_cast<std::size_t>(tensor.shape[1]);
  return fmt::format("[{}, {}]", element / columns, element % columns);
}

template <typename Bad>
std::string first_bad(const io::TensorRef& tensor, const Bad& bad) {
  const auto count = static_cast<std::size_t>(tensor.element_count());
  std::vector<float> values(std::min(kChunk, count));
  for (std::size_t start = 0; start < count; start += kChunk) {
    const std::size_t n = std::min(kChunk, count - start);
    const auto bytes = tensor.bytes.subspan(start * size_of(tensor.dtype));
    convert_to_float(bytes.data(), tensor.dtype, n, values.data());
    for (std::size_t i = 0; i < n; ++i)
      if (bad(values[i]))
        return fmt::format("tensor '{}' holds {} at {}", tensor.name, values[i],
                           place_of(tensor, start + i));
  }
  return "";
}

// The byte of ones is not a number in both types of scales that are codes, nor are FP8's with a
// sign.
void check_coded_scales(const io::TensorRef& scales, Findings& findings) {
  const bool fp8 = scales.dtype == DType::kF8E4M3;
  const auto bad = std::find_if(scales.bytes.begin(), scales.bytes.end(), [&](std::byte code) {
    const auto number = std::to_integer<unsigned>(code);
    return number == 0xff || (fp8 && number >= 0x7f);
  });
  if (bad == scales.bytes.end()) return;
  findings.fault(
      "values",
      fmt::format("tensor '{}' holds the code {} at {}: a scale must be a positive "
                  "number. Download or write it again.",
                  scales.name, std::to_integer<unsigned>(*bad),
                  place_of(scales, static_cast<std::size_t>(bad - scales.bytes.begin()))));
}

void check_scales(const io::TensorRef& scales, Findings& findings) {
  if (!is_floating(scales.dtype)) return check_coded_scales(scales, findings);
  const std::string infinite = first_bad(scales, [](float v) { return !std::isfinite(v); });
  if (!infinite.empty())
    findings.fault("values",
                   infinite + ": a scale must be a finite number. Download or write it again.");
  const std::string zero = first_bad(scales, [](float v) { return v == 0.0f; });
  if (!zero.empty())
    findings.fault("values", zero + ": the whole group would be zero. Download or write it again.");
}

void check_group_indices(const StoredModule& module, Findings& findings) {
  if (module.g_idx == nullptr) return;
  if (module.g_idx->dtype != DType::kI32)
    return findings.fault("layout", fmt::format("tensor '{}' is {}, expected I32",
                                                module.g_idx->name, name_of(module.g_idx->dtype)));
  std::vector<std::int32_t> groups(static_cast<std::size_t>(module.K));
  std::memcpy(groups.data(), module.g_idx->bytes.data(), module.g_idx->bytes.size());
  for (std::size_t k = 0; k < groups.size(); ++k)
    if (groups[k] < 0 || groups[k] >= module.groups)
      return findings.fault("values",
                            fmt::format("tensor '{}' puts input {} into group {}; there are {}",
                                        module.g_idx->name, k, groups[k], module.groups));
}

std::set<std::string> parts_of(const std::vector<StoredModule>& modules) {
  std::set<std::string> names;
  for (const StoredModule& module : modules) names.insert(module.scales->name);
  return names;
}

void check_values(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
                  const ConfiguredModules* configured, Findings& findings) {
  const std::size_t before = findings.faults();
  std::string ambiguity;  // one is enough
  for (const StoredModule& module : modules) {
    check_scales(*module.scales, findings);
    check_group_indices(module, findings);
    if (ambiguity.empty() && configured != nullptr && configured->format == module.format)
      ambiguity = configured->ambiguity_of(module);
  }
  if (!ambiguity.empty()) findings.warning("values", ambiguity);
  const std::set<std::string> scales = parts_of(modules);
  std::size_t dense = 0;
  for (const auto& [name, tensor] : tensors.by_name) {
    if (!is_floating(tensor->dtype) || scales.count(name) > 0) continue;
    ++dense;
    const std::string bad = first_bad(*tensor, [](float v) { return !std::isfinite(v); });
    if (!bad.empty()) findings.fault("values", bad + ". Download or write it again.");
  }
  if (findings.faults() == before)
    findings.ok("values",
                fmt::format("scales of {} modules are finite and not zero, {} dense tensors "
                            "finite",
                            modules.size(), dense));
}

void add_faults(const char* check, const std::vector<std::string>& faults, Findings& findings) {
  for (const std::string& fault : faults) findings.fault(check, fault);
}

}  // namespace

void check_modules(const std::filesystem::path& folder, const LooseTensors& tensors,
                   Findings& findings) {
  std::vector<std::string> faults;
  const std::unique_ptr<ConfiguredModules> configured = formats::configured_modules(folder, faults);
  add_faults("config", faults, findings);
  faults.clear();
  const std::vector<StoredModule> modules =
      formats::stored_modules(tensors, configured.get(), faults);
  add_faults("layout", faults, findings);
  if (faults.empty())
    findings.ok("layout",
                fmt::format("{} packed modules, each with all its parts", modules.size()));
  check_config(tensors, modules, configured.get(), findings);
  check_values(tensors, modules, configured.get(), findings);
}

}  // namespace calque::verify
