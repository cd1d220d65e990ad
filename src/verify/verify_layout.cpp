// Packed modules, from the shapes of their tensors alone (formats_gptq_awq.md, sections 1, 3, 4).
#include <fmt/format.h>

#include <cstring>

#include "verify/verify_parts.h"
#include "formats/wording.h"
#include "calque/kernels/pack_bits.h"

namespace calque::verify {
namespace {

using Layout = StoredModule::Layout;

constexpr int kWidths[] = {2, 3, 4, 8};

class LayoutCheck {
 public:
  LayoutCheck(const LooseTensors& tensors, Findings& findings)
      : tensors_(tensors), findings_(findings) {}

  // nullopt: a fault was reported.
  std::optional<StoredModule> gptq(const std::string& name) {
    StoredModule module{.name = name};
    const io::TensorRef* qweight = part(name, "qweight", {DType::kI32});
    module.zeros = part(name, "qzeros", {DType::kI32});
    module.scales = part(name, "scales", {DType::kF16, DType::kBF16, DType::kF32});
    module.g_idx = tensors_.find(name + ".g_idx");
    if (module.g_idx != nullptr && module.g_idx->element_count() == 0) module.g_idx = nullptr;
    if (!qweight || !module.zeros || !module.scales) return std::nullopt;
    module.N = qweight->shape[1];
    module.groups = module.scales->shape[0];
    for (const int bits : kWidths) {
      const Index K =
          module.g_idx != nullptr ? module.g_idx->element_count() : qweight->shape[0] * 32 / bits;
      if (packed_words(K, bits) != qweight->shape[0] ||
          packed_words(module.N, bits) != module.zeros->shape[1])
        continue;
      module.bits = bits;
      module.K = K;
    }
    const bool good = module.bits != 0 && module.scales->shape[1] == module.N &&
                      module.zeros->shape[0] == module.groups && fits_groups(module);
    if (!good) return contradiction(name, {qweight, module.zeros, module.scales, module.g_idx});
    return module;
  }

  std::optional<StoredModule> awq(const std::string& name) {
    StoredModule module{.name = name, .layout = Layout::kAwq, .bits = 4};
    const io::TensorRef* qweight = part(name, "qweight", {DType::kI32});
    module.zeros = part(name, "qzeros", {DType::kI32});
    module.scales = part(name, "scales", {DType::kF16, DType::kBF16, DType::kF32});
    if (!qweight || !module.zeros || !module.scales) return std::nullopt;
    module.K = qweight->shape[0];
    module.N = qweight->shape[1] * 8;
    module.groups = module.scales->shape[0];
    const bool good = module.scales->shape[1] == module.N &&
                      module.zeros->shape == std::vector<Index>{module.groups, module.N / 8} &&
                      fits_groups(module);
    if (!good) return contradiction(name, {qweight, module.zeros, module.scales});
    return module;
  }

  std::optional<StoredModule> compressed_tensors(const std::string& name) {
    StoredModule module{.name = name, .layout = Layout::kCompressedTensors};
    const io::TensorRef* packed = part(name, "weight_packed", {DType::kI32});
    module.scales = part(name, "weight_scale", {DType::kF16, DType::kBF16, DType::kF32});
    const io::TensorRef* shape = tensors_.find(name + ".weight_shape");
    module.zeros = tensors_.find(name + ".weight_zero_point");
    if (!packed || !module.scales || !read_shape(name, shape, module)) return std::nullopt;
    module.groups = module.scales->shape[1];
    for (int bits = 1; bits <= 8; ++bits)
      if (packed_words(module.K, bits) == packed->shape[1]) module.bits = bits;
    const bool zeros_fit =
        module.zeros == nullptr ||
        (module.zeros->dtype == DType::kI32 &&
         module.zeros->shape ==
             std::vector<Index>{packed_words(module.N, std::max(module.bits, 1)), module.groups});
    const bool good = module.bits != 0 && packed->shape[0] == module.N &&
                      module.scales->shape[0] == module.N && zeros_fit && fits_groups(module);
    if (!good) return contradiction(name, {packed, module.scales, shape, module.zeros});
    return module;
  }

  // Loaders that look for ".weight" first would load the module unquantized.
  void check_no_dense_twin(const std::string& name) {
    if (tensors_.find(name + ".weight") != nullptr)
      findings_.fault("layout",
                      fmt::format("module '{}' is stored twice: packed and as '{}.weight'. Remove "
                                  "one of them.",
                                  name, name));
  }

 private:
  // ceil(K / g) groups for some g.
  static bool fits_groups(const StoredModule& module) {
    return module.K > 0 && module.N > 0 && module.groups > 0 && module.groups <= module.K;
  }

  const io::TensorRef* part(const std::string& module, const std::string& suffix,
                            const std::vector<DType>& dtypes) {
    const std::string name = module + "." + suffix;
    const io::TensorRef* tensor = tensors_.find(name);
    if (tensor == nullptr) {
      if (tensors_.complete)
        findings_.fault("layout", fmt::format("module '{}' is packed, but its tensor '{}' is "
                                              "missing. Fetch the file again.",
                                              module, name));
      return nullptr;
    }
    for (const DType dtype : dtypes)
      if (tensor->dtype == dtype && tensor->shape.size() == 2) return tensor;
    std::vector<std::string> names;
    for (const DType dtype : dtypes) names.emplace_back(name_of(dtype));
    findings_.fault("layout",
                    fmt::format("tensor '{}' is {} {}, expected a matrix of {}", name,
                                name_of(tensor->dtype), tensor->shape_text(), formats::alternatives(names)));
    return nullptr;
  }

  bool read_shape(const std::string& module, const io::TensorRef* tensor, StoredModule& result) {
    if (tensor == nullptr || tensor->dtype != DType::kI64 ||
        tensor->shape != std::vector<Index>{2}) {
      findings_.fault("layout",
                      fmt::format("module '{}' is packed, but '{}.weight_shape' is missing or no "
                                  "pair of I64",
                                  module, module));
      return false;
    }
    std::int64_t sizes[2] = {};
    std::memcpy(sizes, tensor->bytes.data(), sizeof(sizes));
    // What no file could hold is not worth computing with.
    constexpr std::int64_t kMost = std::int64_t{1} << 32;
    if (sizes[0] < 1 || sizes[1] < 1 || sizes[0] > kMost || sizes[1] > kMost) {
      findings_.fault("layout", fmt::format("tensor '{}' says [{}, {}], which is no shape",
                                            tensor->name, sizes[0], sizes[1]));
      return false;
    }
    result.N = sizes[0];
    result.K = sizes[1];
    return true;
  }

  std::nullopt_t contradiction(const std::string& module,
                               const std::vector<const io::TensorRef*>& parts) {
    std::string shapes;
    for (const io::TensorRef* part : parts)
      if (part != nullptr)
        shapes += fmt::format("{}{} {}", shapes.empty() ? "" : ", ",
                              part->name.substr(part->name.rfind('.') + 1), part->shape_text());
    findings_.fault("layout", fmt::format("the tensors of module '{}' contradict each other: {}. "
                                          "Write the artifact again.",
                                          module, shapes));
    return std::nullopt;
  }

  const LooseTensors& tensors_;
  Findings& findings_;
};

std::string module_of(const std::string& tensor, std::string_view marker) {
  return tensor.ends_with(marker) ? tensor.substr(0, tensor.size() - marker.size()) : "";
}

}  // namespace

std::vector<StoredModule> stored_modules(const LooseTensors& tensors, bool awq,
                                         Findings& findings) {
  LayoutCheck check(tensors, findings);
  const std::size_t before = findings.faults();
  std::vector<StoredModule> modules;
  for (const auto& [name, tensor] : tensors.by_name) {
    const std::string gptq = module_of(name, ".qweight");
    const std::string packed = module_of(name, ".weight_packed");
    if (gptq.empty() && packed.empty()) continue;
    const std::optional<StoredModule> module = !packed.empty() ? check.compressed_tensors(packed)
                                               : awq           ? check.awq(gptq)
                                                               : check.gptq(gptq);
    check.check_no_dense_twin(gptq.empty() ? packed : gptq);
    if (module) modules.push_back(*module);
  }
  if (findings.faults() == before)
    findings.ok("layout",
                fmt::format("{} packed modules, each with all its parts", modules.size()));
  return modules;
}

}  // namespace calque::verify
