// What the tensors hold: numbers that a loader could compute with.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "verify/verify_parts.h"
#include "calque/kernels/pack_bits.h"

namespace calque::verify {
namespace {

// Elements widened at a time: an embedding needs no copy of its own.
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

void check_scales(const io::TensorRef& scales, Findings& findings) {
  const std::string infinite = first_bad(scales, [](float v) { return !std::isfinite(v); });
  if (!infinite.empty())
    findings.fault("values", infinite + ": a scale must be a number. Fetch or write it again.");
  const std::string zero = first_bad(scales, [](float v) { return v == 0.0f; });
  if (!zero.empty())
    findings.fault("values", zero + ": the whole group would be zero. Fetch or write it again.");
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

// v1 stores z - 1: a field of all ones is a zero point of 0 to some readers and of 2^bits to
// others.
bool has_unportable_zero(const StoredModule& module) {
  Matrix<std::int32_t> words(module.zeros->shape[0], module.zeros->shape[1]);
  std::memcpy(words.data(), module.zeros->bytes.data(), module.zeros->bytes.size());
  Matrix<std::uint8_t> fields(module.groups, module.N);
  unpack_rows(words, module.bits, fields);
  const auto ones = static_cast<std::uint8_t>((1 << module.bits) - 1);
  return std::find(fields.data(), fields.data() + fields.size(), ones) !=
         fields.data() + fields.size();
}

std::set<std::string> parts_of(const std::vector<StoredModule>& modules) {
  std::set<std::string> names;
  for (const StoredModule& module : modules) names.insert(module.scales->name);
  return names;
}

}  // namespace

void check_values(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
                  const MeantModules* meant, Findings& findings) {
  const std::size_t before = findings.faults();
  const bool v1 = meant != nullptr && meant->zeros_minus_one;
  std::string unportable;
  for (const StoredModule& module : modules) {
    check_scales(*module.scales, findings);
    check_group_indices(module, findings);
    if (v1 && unportable.empty() && module.layout == StoredModule::Layout::kGptq &&
        has_unportable_zero(module))
      unportable = module.zeros->name;
  }
  if (!unportable.empty())
    findings.warning("values",
                     fmt::format("tensor '{}' holds zero points of 0, which "
                                 "checkpoint_format 'gptq' cannot store portably: readers "
                                 "disagree. Write gptq_v2.",
                                 unportable));
  const std::set<std::string> scales = parts_of(modules);
  std::size_t dense = 0;
  for (const auto& [name, tensor] : tensors.by_name) {
    if (!is_floating(tensor->dtype) || scales.count(name) > 0) continue;
    ++dense;
    const std::string bad = first_bad(*tensor, [](float v) { return !std::isfinite(v); });
    if (!bad.empty()) findings.fault("values", bad + ". Fetch or write it again.");
  }
  if (findings.faults() == before)
    findings.ok("values", fmt::format("scales of {} modules finite and not zero, {} dense tensors "
                                      "finite",
                                      modules.size(), dense));
}

}  // namespace calque::verify
