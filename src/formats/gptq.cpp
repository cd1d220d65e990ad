// GPTQ folders, v1 and v2, also those of other tools when reading. Codes are packed along the
// inputs, zero points along the outputs, both as streams of bits from the low end of 32-bit words.
// v1 ("gptq") stores zero points as z - 1, v2 ("gptq_v2") as z; nothing else differs.
//   qweight I32 [packed_words(K), N]   qzeros I32 [G, packed_words(N)]
//   scales  F16 [G, N]                 g_idx  I32 [K], the group of each input
#include "formats/gptq.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"
#include "formats/module_patterns.h"
#include "formats/packed_config.h"
#include "formats/packed_format.h"

namespace calque::formats {

const Format& gptq_format();

namespace {

using io::Json;

// ---- Limits

// Loaders' fast packers and kernels take 32 channels at a time at every width.
Index thirty_two(const ModuleSettings&) { return 32; }

// "gptq" or "gptq_v2"; "auto" is v1 when every zero point is fixed.
std::string checkpoint_format(const std::string& requested, bool all_sym) {
  if (requested != "auto") return requested;
  return all_sym ? "gptq" : "gptq_v2";
}

quant::Grid grid_of(const PlanInputs& inputs, const model::TensorSpec&,
                    const ModuleSettings& settings) {
  quant::Grid grid = basic_grid(settings, half_precision(inputs.request));
  const bool all_sym = std::all_of(inputs.modules.begin(), inputs.modules.end(),
                                   [](const auto& module) { return module.second.sym; });
  const bool v1 = checkpoint_format(inputs.request.checkpoint_format, all_sym) == "gptq";
  grid.min_zero = !settings.sym && v1 ? 1 : 0;
  grid.desc_act = inputs.request.desc_act;
  return grid;
}

// ---- Packing

// Fields of qzeros [G, N].
Matrix<std::uint8_t> zero_fields(const quant::QuantizedMatrix& q, bool v2) {
  auto fields_GN = transposed(stored_zeros(q));
  if (v2) return fields_GN;
  for (Index g = 0; g < fields_GN.rows(); ++g)
    for (Index n = 0; n < fields_GN.cols(); ++n) {
      if (fields_GN(g, n) == 0)
        throw Error(ErrorKind::kInternal, "",
                    fmt::format("zero point 0 in row {}, group {}: checkpoint_format 'gptq' cannot "
                                "store it portably, 'gptq_v2' can",
                                n, g));
      --fields_GN(g, n);
    }
  return fields_GN;
}

std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                           const StoredAs& stored) {
  const quant::Grid& grid = stored.grid;
  const Index groups = grid.groups(K);
  return {{module + ".qweight", DType::kI32, {packed_words(K, grid.bits), N}},
          {module + ".qzeros", DType::kI32, {groups, packed_words(N, grid.bits)}},
          {module + ".scales", DType::kF16, {groups, N}},
          {module + ".g_idx", DType::kI32, {K}}};
}

std::vector<NamedBytes> pack(const std::string& module, const quant::QuantizedMatrix& q,
                             const Packing& packing) {
  const Index N = q.out_features();
  const Index K = q.in_features();
  const int bits = q.grid.bits;
  const bool v2 = checkpoint_format(packing.checkpoint_format, packing.all_sym) == "gptq_v2";
  Matrix<std::int32_t> qweight(packed_words(K, bits), N);
  pack_columns(transposed(q.groups().codes_NK), bits, qweight, packing.exec);
  const Matrix<std::uint8_t> zeros_GN = zero_fields(q, v2);
  Matrix<std::int32_t> qzeros(zeros_GN.rows(), packed_words(N, bits));
  pack_rows(zeros_GN, bits, qzeros, packing.exec);
  const quant::GroupCodes& groups = q.groups();
  const std::vector<std::int32_t> g_idx =
      groups.group_of_column_K.empty() ? quant::consecutive_groups(K, q.grid.group_size_for(K))
                                       : groups.group_of_column_K;
  return {{module + ".qweight", bytes_of(qweight)},
          {module + ".qzeros", bytes_of(qzeros)},
          {module + ".scales", stored_scales(transposed(groups.scales_NG), DType::kF16)},
          {module + ".g_idx", bytes_of(g_idx.data(), static_cast<Index>(g_idx.size()))}};
}

// ---- Unpacking

struct Parts {
  const io::TensorRef* qweight = nullptr;
  const io::TensorRef* qzeros = nullptr;
  const io::TensorRef* scales = nullptr;
  const io::TensorRef* g_idx = nullptr;  // null: consecutive groups
  Index N = 0;
  Index K = 0;
};

// g_idx has K entries; without it (or if it is empty, as from some tools) K follows from the packed
// rows.
Index in_features_of(const Parts& parts, int bits) {
  if (parts.g_idx != nullptr) return parts.g_idx->element_count();
  return parts.qweight->shape[0] * 32 / bits;
}

const io::TensorRef* find_g_idx(const io::SafetensorsCheckpoint& checkpoint,
                                const std::string& module) {
  const io::TensorRef* g_idx = checkpoint.find(module + ".g_idx");
  if (g_idx == nullptr || g_idx->element_count() == 0) return nullptr;
  if (g_idx->dtype != DType::kI32 || g_idx->shape.size() != 1)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("tensor '{}' is {} {}, expected a vector of I32", g_idx->name,
                            name_of(g_idx->dtype), g_idx->shape_text()));
  return g_idx;
}

// Also narrows `settings` to those of the module.
Parts find_parts(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                 PackedSettings& settings) {
  Parts parts;
  parts.qweight = &part_of(checkpoint, module, "qweight", {DType::kI32});
  parts.qzeros = &part_of(checkpoint, module, "qzeros", {DType::kI32});
  parts.scales = &part_of(checkpoint, module, "scales", kScaleTypes);
  parts.g_idx = find_g_idx(checkpoint, module);
  parts.N = parts.qweight->shape[1];
  // The zero points reveal the width even if nothing states the number of inputs.
  const Index zero_words = parts.qzeros->shape[1];
  const int bits = settings.mixed ? width_of(settings, module, zero_words, parts.N) : settings.bits;
  parts.K = in_features_of(parts, bits);
  settings =
      settings_of_module(settings, module, zero_words, parts.N, parts.K, parts.scales->shape[0]);
  return parts;
}

void check_shapes(const Parts& parts, const PackedSettings& settings) {
  const std::string said =
      fmt::format("{} inputs and {} outputs at bits {}, group_size {} ({})", parts.K, parts.N,
                  settings.bits, settings.group_size, settings.where);
  require_shape(*parts.qweight, {packed_words(parts.K, settings.bits), parts.N}, said);
  const Index groups = group_count(parts.K, settings.group_size);
  require_shape(*parts.scales, {groups, parts.N}, said);
  require_shape(*parts.qzeros, {groups, packed_words(parts.N, settings.bits)}, said);
}

std::vector<std::int32_t> groups_of(const Parts& parts, const PackedSettings& settings,
                                    Index groups) {
  const Index group_size = settings.group_size < 0 ? parts.K : settings.group_size;
  const std::vector<std::int32_t> consecutive = quant::consecutive_groups(parts.K, group_size);
  if (parts.g_idx == nullptr) return consecutive;
  std::vector<std::int32_t> stored(static_cast<std::size_t>(parts.K));
  std::memcpy(stored.data(), parts.g_idx->bytes.data(), parts.g_idx->bytes.size());
  for (std::size_t k = 0; k < stored.size(); ++k)
    if (stored[k] < 0 || stored[k] >= groups)
      throw Error(ErrorKind::kInput, "E174",
                  fmt::format("tensor '{}' puts input {} into group {}, but there are {} groups",
                              parts.g_idx->name, k, stored[k], groups));
  // Some tools leave zeros if no activation order was used.
  const bool unset =
      std::all_of(stored.begin(), stored.end(), [](std::int32_t group) { return group == 0; });
  return unset && !settings.desc_act ? consecutive : stored;
}

// Symmetric files need no zero points, and tools store different values for them.
Matrix<std::uint8_t> zeros_of(const Parts& parts, const PackedSettings& settings) {
  if (settings.sym.value_or(false)) return {};
  return transposed(
      unpack_gptq_zeros(words_of(*parts.qzeros), parts.N, settings.bits, settings.v2));
}

bool all_are(const Matrix<std::uint8_t>& zeros_NG, int zero) {
  return std::all_of(zeros_NG.data(), zeros_NG.data() + zeros_NG.size(),
                     [&](std::uint8_t z) { return z == zero; });
}

quant::QuantizedMatrix unpack(const Parts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  auto codes_KN = Matrix<std::uint8_t>::uninitialized(parts.K, parts.N);
  unpack_columns(words_of(*parts.qweight), settings.bits, codes_KN);
  quant::GroupCodes& stored = q.groups();
  stored.codes_NK = transposed(codes_KN);
  stored.scales_NG = transposed(scales_of(*parts.scales));
  const Matrix<std::uint8_t> zeros_NG = zeros_of(parts, settings);
  stored.offsets_NG = offsets_of(stored.scales_NG, zeros_NG, settings.bits);

  const bool sym = settings.sym.value_or(all_are(zeros_NG, 1 << (settings.bits - 1)));
  q.grid = basic_grid({settings.bits, settings.group_size, sym}, precision_of(parts.scales->dtype));
  std::vector<std::int32_t> groups = groups_of(parts, settings, stored.scales_NG.cols());
  const Index group_size = q.grid.group_size_for(parts.K);
  const bool consecutive = groups == quant::consecutive_groups(parts.K, group_size);
  if (!consecutive || parts.K % group_size != 0) stored.group_of_column_K = std::move(groups);
  return q;
}

PackedModule open(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                  const PackedSettings& stated) {
  PackedSettings settings = stated;
  const Parts parts = find_parts(checkpoint, module, settings);
  check_shapes(parts, settings);
  PackedModule result = packed_module(
      module, parts.N, parts.K, description("GPTQ", settings, settings.sym.value_or(false)),
      {parts.qweight, parts.qzeros, parts.scales, checkpoint.find(module + ".g_idx")});
  result.unpack = [parts, settings] { return unpack(parts, settings); };
  return result;
}

// ---- quantization_config, written

using Module = FolderContents::Module;

// vLLM matches "dynamic" against the names of its fused modules, not of the stored parts. A rule
// without these names has no effect there.
std::string fused_name(const std::string& name) {
  // All experts of a layer are one module: ".mlp.experts" of ".mlp.experts.3.up_proj".
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = name.find(kExperts);
  if (at != std::string::npos) return name.substr(0, at + kExperts.size() - 1);
  const std::size_t dot = name.rfind('.');
  const std::string role = name.substr(dot + 1);
  const std::string parent = dot == std::string::npos ? "" : name.substr(0, dot + 1);
  if (role == "q_proj" || role == "k_proj" || role == "v_proj") return parent + "qkv_proj";
  if (role == "gate_proj" || role == "up_proj") return parent + "gate_up_proj";
  return "";
}

// Adds the fused modules whose parts agree. Modules whose parts differ are left out, because no
// rule could describe them.
std::vector<Module> with_fused(const std::vector<Module>& modules) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::optional<ModuleSettings>>> parts;
  for (const Module& module : modules) {
    const std::string fused = fused_name(module.name);
    if (fused.empty()) continue;
    if (parts.count(fused) == 0) order.push_back(fused);
    parts[fused].push_back(module.settings);
  }
  std::vector<Module> result = modules;
  for (const std::string& fused : order) {
    const auto& settings = parts[fused];
    const bool agree = std::all_of(settings.begin(), settings.end(),
                                   [&](const auto& each) { return each == settings.front(); });
    if (agree) result.push_back({fused, settings.front()});
  }
  return result;
}

std::vector<std::string> names_where(const std::vector<Module>& modules,
                                     const std::optional<ModuleSettings>& settings) {
  std::vector<std::string> names;
  for (const Module& module : modules)
    if (module.settings == settings) names.push_back(module.name);
  return names;
}

// Unquantized modules come first: some loaders take the first rule that matches, in file order.
Json dynamic_rules(const FolderContents& contents) {
  std::vector<Module> modules = with_fused(contents.modules);
  // "lm_head": false already leaves the head unquantized.
  if (!contents.lm_head)
    std::erase_if(modules, [](const Module& m) { return m.name == "lm_head"; });
  std::vector<std::string> all;
  for (const Module& module : modules) all.push_back(module.name);

  Json rules = Json::object();
  for (const std::string& regex : contents.regexes(names_where(modules, std::nullopt), all))
    rules["-:" + regex] = Json::object();
  for (const std::string& regex : contents.carried_regexes()) rules["-:" + regex] = Json::object();
  for (const FolderContents::Group& group : contents.groups()) {
    const ModuleSettings& own = group.settings;
    if (own == contents.usual) continue;
    for (const std::string& regex : contents.regexes(names_where(modules, own), all))
      rules["+:" + regex] = {{"bits", own.bits}, {"group_size", own.group_size}, {"sym", own.sym}};
  }
  return rules;
}

// "self_attn.q_proj" of "model.layers.3.self_attn.q_proj"; "" outside of blocks.
std::string name_in_block(const std::string& name) {
  constexpr std::string_view kLayers = ".layers.";
  const std::size_t at = name.find(kLayers);
  if (at == std::string::npos) return "";
  return name.substr(name.find('.', at + kLayers.size()) + 1);
}

// transformers' loader replaces every Linear of a block that this list does not leave out, and
// ignores "dynamic". Null: every Linear is quantized.
Json modules_in_block(const FolderContents& contents) {
  std::vector<std::string> order;
  std::map<std::string, bool> quantized;
  for (const Module& module : contents.modules) {
    const std::string name = name_in_block(module.name);
    if (name.empty()) continue;
    if (quantized.count(name) == 0) order.push_back(name);
    quantized[name] |= module.settings.has_value();
  }
  Json names = Json::array();
  for (const std::string& name : order)
    if (quantized[name]) names.push_back(name);
  return names.size() == order.size() ? Json() : Json::array({names});
}

// Metadata that does not affect inference.
Json meta_of(const FolderContents& contents, const Provenance& provenance) {
  Json meta = {{"quantizer", Json::array({provenance.quantizer})},
               {"algorithm", provenance.method}};
  if (provenance.method == "gptq" || provenance.rounding == "gptq") {
    meta["damp_percent"] = provenance.damp_percent;
    meta["static_groups"] = provenance.act_order && !contents.desc_act;
    meta["true_sequential"] = true;
  }
  return meta;
}

// Every key that some loader reads, in both spellings: old readers know only "quant_method" and
// "checkpoint_format".
Json write_config(const FolderContents& contents, const Provenance& provenance) {
  const std::string format = checkpoint_format(contents.checkpoint_format, contents.all_sym);
  Json json = {{"bits", contents.usual.bits},   {"group_size", contents.usual.group_size},
               {"desc_act", contents.desc_act}, {"sym", contents.usual.sym},
               {"lm_head", contents.lm_head},   {"method", "gptq"},
               {"quant_method", "gptq"},        {"format", format},
               {"checkpoint_format", format},   {"pack_dtype", "int32"}};
  if (Json rules = dynamic_rules(contents); !rules.empty()) json["dynamic"] = std::move(rules);
  if (Json names = modules_in_block(contents); !names.is_null())
    json["modules_in_block_to_quantize"] = std::move(names);
  json["meta"] = meta_of(contents, provenance);
  return json;
}

// ---- quantization_config, read

PackedSettings read_config(const Json& json, const std::string& where) {
  PackedSettings settings{.format = &gptq_format(), .where = where};
  read_widths(json, {"bits", "w_bit", "wbits"}, 128, settings);
  settings.sym = flag_of(json, {"sym"}, where);
  read_dynamic_rules(json, settings);
  settings.desc_act = flag_of(json, {"desc_act"}, where).value_or(false);
  // Without the key the file is v1.
  const std::string format = text_of(json, {"checkpoint_format", "format"}, where, "gptq");
  if (format != "gptq" && format != "gptq_v2")
    refuse_config(where,
                  fmt::format("checkpoint_format '{}' cannot be read; calque reads 'gptq' and "
                              "'gptq_v2'",
                              format));
  settings.v2 = format == "gptq_v2";
  if (settings.v2) settings.stored_format = format;
  return settings;
}

// v1 stores z - 1: a field of all ones is a zero point of 0 to some readers and of 2^bits to
// others.
bool has_zero_of_zero(const StoredModule& module) {
  Matrix<std::uint8_t> fields(module.groups, module.N);
  unpack_rows(words_of(*module.zeros), module.bits, fields);
  const auto ones = static_cast<std::uint8_t>((1 << module.bits) - 1);
  return std::find(fields.data(), fields.data() + fields.size(), ones) !=
         fields.data() + fields.size();
}

class Configured : public ConfiguredModules {
 public:
  Configured(const Json& json, std::vector<std::string>& faults)
      : v1_(text_in(json, {"checkpoint_format", "format"}) != "gptq_v2"),
        head_(flag_in(json, {"lm_head"})) {
    read_widths_in(json, all_);
    const Json* lists = find_any(json, {"modules_in_block_to_quantize"});
    if (lists != nullptr && lists->is_array())
      for (const Json& list : lists->elements())
        for (const std::string& name : strings_in(&list)) in_block_.push_back("." + name);
    const Json* rules = find_any(json, {"dynamic"});
    if (rules == nullptr || !rules->is_object()) return;
    for (const auto& [key, change] : rules->members()) add_rule(key, change, faults);
    // GPTQModel applies negative rules first.
    std::stable_sort(rules_.begin(), rules_.end(),
                     [](const Rule& a, const Rule& b) { return a.skip && !b.skip; });
  }

  std::optional<ConfiguredSettings> of(const std::string& module) const override {
    for (const Rule& rule : rules_)
      if (safely_matches(rule.matcher, module)) {
        if (rule.skip) return std::nullopt;
        ConfiguredSettings settings = all_;
        read_widths_in(rule.change, settings);
        return settings;
      }
    if (module.ends_with("lm_head")) return head_ ? std::optional(all_) : std::nullopt;
    const bool listed = in_block_.empty() || std::any_of(in_block_.begin(), in_block_.end(),
                                                         [&](const std::string& name) {
                                                           return module.ends_with(name);
                                                         });
    return listed ? std::optional(all_) : std::nullopt;
  }

  std::string ambiguity_of(const StoredModule& module) const override {
    if (!v1_ || !has_zero_of_zero(module)) return "";
    return fmt::format(
        "tensor '{}' holds zero points of 0, which checkpoint_format 'gptq' cannot store portably: "
        "readers disagree. Write gptq_v2.",
        module.zeros->name);
  }

 private:
  struct Rule {
    bool skip = false;
    ModuleMatcher matcher;
    Json change;
  };

  void add_rule(std::string pattern, const Json& change, std::vector<std::string>& faults) {
    const bool skip = pattern.starts_with("-:");
    if (skip || pattern.starts_with("+:")) pattern.erase(0, 2);
    if (const auto matcher = regex_in_config(pattern, faults))
      rules_.push_back({skip, *matcher, change});
  }

  bool v1_;
  bool head_;
  ConfiguredSettings all_;
  std::vector<std::string> in_block_;  // suffixes of module names
  std::vector<Rule> rules_;
};

std::optional<StoredModule> stored(StoredParts& parts, const std::string& name) {
  StoredModule module{.name = name};
  const io::TensorRef* qweight = parts.matrix(name, "qweight", {DType::kI32});
  module.zeros = parts.matrix(name, "qzeros", {DType::kI32});
  module.scales = parts.matrix(name, "scales", kScaleTypes);
  module.g_idx = parts.find(name + ".g_idx");
  if (module.g_idx != nullptr && module.g_idx->element_count() == 0) module.g_idx = nullptr;
  if (!qweight || !module.zeros || !module.scales) return std::nullopt;
  module.N = qweight->shape[1];
  module.groups = module.scales->shape[0];
  for (const int bits : {2, 3, 4, 8}) {
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
  if (!good) return parts.contradiction(name, {qweight, module.zeros, module.scales, module.g_idx});
  return module;
}

// ---- Runtimes

bool is_four_or_eight(int bits) { return bits == 4 || bits == 8; }

std::string runtime_limit(const std::vector<int>& bits, bool all_symmetric) {
  if (all_symmetric && std::all_of(bits.begin(), bits.end(), is_four_or_eight)) return "";
  return fmt::format(
      "vLLM and SGLang load GPTQ folders of 4 or 8 bits with symmetric groups; this one has {} "
      "bits{}, so they refuse it or fall back to a slow kernel. Use transformers with GPTQModel.",
      fmt::join(bits, ", "), all_symmetric ? "" : " and zero points");
}

}  // namespace

Matrix<std::uint8_t> unpack_gptq_zeros(MatrixView<const std::int32_t> qzeros, Index N, int bits,
                                       bool v2) {
  auto words = Matrix<std::int32_t>::copy_of(qzeros);
  const bool fields_fill_words = 32 % bits == 0;
  if (!v2 && fields_fill_words) {
    std::uint32_t ones = 0;  // one in every field: 0x55555555, 0x11111111, 0x01010101
    for (int shift = 0; shift < 32; shift += bits) ones |= std::uint32_t{1} << shift;
    for (Index i = 0; i < words.size(); ++i)
      words.data()[i] =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(words.data()[i]) + ones);
  }
  Matrix<std::uint8_t> zeros_GN(words.rows(), N);
  unpack_rows(words, bits, zeros_GN);
  if (!v2 && !fields_fill_words) {
    const int mask = (1 << bits) - 1;
    for (Index i = 0; i < zeros_GN.size(); ++i)
      zeros_GN.data()[i] = static_cast<std::uint8_t>((zeros_GN.data()[i] + 1) & mask);
  }
  return zeros_GN;
}

const Format& gptq_format() {
  static const PackedFormat packed = {
      .widths = {2, 3, 4, 8},
      .input_multiple = thirty_two,
      .output_multiple = thirty_two,
      .grid = grid_of,
      .declare = declare,
      .pack = pack,
      .read_widths = {2, 3, 4, 8},
      .marker = ".qweight",
      .open = open,
      .write_config = write_config,
      .writes_quantize_config = true,
      .read_config = read_config,
      .stored = stored,
      .configured = [](const Json& json,
                       std::vector<std::string>& faults) -> std::unique_ptr<ConfiguredModules> {
        return std::make_unique<Configured>(json, faults);
      },
      // The unified GPTQ loader.
      .vllm_loads =
          [](const quant::Grid& grid) {
            return is_four_or_eight(grid.bits) && grid.offset_kind == OffsetKind::kMiddleCode;
          },
      .vllm_advice =
          "vLLM loads GPTQ folders of 4 or 8 bits with sym: true only; write these, or export "
          "compressed-tensors (4 or 8 bits, sym or not) or awq (4 bits, not sym)",
      .runtime_limit = runtime_limit,
      .python_packages = "optimum gptqmodel"};
  static const Format row = packed_row(
      {.name = "gptq",
       .summary = "folder of safetensors for vLLM, SGLang, transformers: 2, 3, 4 or 8 bits",
       .label = "GPTQ",
       .short_label = "GPTQ",
       .packs_on_device = true,
       .checkpoint_formats = {"auto", "gptq", "gptq_v2"},
       .has_desc_act = true,
       .packed = &packed});
  return row;
}

}  // namespace calque::formats
