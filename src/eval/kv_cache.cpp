#include "calque/eval/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/core/small_float.h"
#include "calque/ggml/blocks.h"

namespace calque::eval {
namespace {

struct NamedType {
  std::string_view name;
  KvType type;
  std::optional<ggml::Type> block;
};

constexpr std::array<NamedType, 6> kTypes{{{"", KvType::kAsComputed, {}},
                                           {"f16", KvType::kF16, {}},
                                           {"fp8", KvType::kFp8, {}},
                                           {"q8_0", KvType::kQ8_0, ggml::Type::kQ8_0},
                                           {"q5_1", KvType::kQ5_1, ggml::Type::kQ5_1},
                                           {"q4_0", KvType::kQ4_0, ggml::Type::kQ4_0}}};

const NamedType& entry_of(KvType type) {
  for (const NamedType& entry : kTypes)
    if (entry.type == type) return entry;
  return kTypes.front();
}

// Calls body(layer, shape) for every layer that has keys and values.
template <typename Body>
void each_cache(const model::FamilySpec& family, const Body& body) {
  for (const model::BlockSpec& block : family.blocks)
    for (const model::HalfSpec& half : block.halves)
      if (const std::optional<model::CacheShape> shape = half.mixer->cache())
        body(block.layer, *shape);
}

void check_blocks(const KvCacheSpec& spec, KvType type, const model::FamilySpec& family) {
  const NamedType& entry = entry_of(type);
  if (!entry.block) return;
  const Index columns = ggml::info_of(*entry.block).block_columns;
  each_cache(family, [&](Index, const model::CacheShape& shape) {
    if (shape.head_dim % columns == 0) return;
    throw Error(ErrorKind::kConfig, "E241",
                fmt::format("the key/value cache '{}' cannot be {}: heads of this model have {} "
                            "elements, which is not a multiple of the type's blocks of {}. Use "
                            "fp8 or f16",
                            spec.name, entry.name, shape.head_dim, columns));
  });
}

void round_rows(KvType type, MatrixView<float> rows_TD) {
  if (const std::optional<ggml::Type> block = entry_of(type).block) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(rows_TD.rows()) *
                                 ggml::row_bytes(*block, rows_TD.cols()));
    ggml::quantize(*block, rows_TD, {}, bytes.data());
    ggml::dequantize(*block, bytes.data(), rows_TD);
    return;
  }
  if (type == KvType::kAsComputed) return;
  for (Index t = 0; t < rows_TD.rows(); ++t)
    for (float& value : std::span(rows_TD.row(t), static_cast<std::size_t>(rows_TD.cols())))
      value = type == KvType::kFp8 ? rounded_to_fp8(value) : rounded_to_half(value);
}

class Rounding : public forward::KvCacheRounding {
 public:
  explicit Rounding(KvCacheSpec spec) : spec_(std::move(spec)) {}

  bool rounds(Index layer) const override { return spec_.rounds(layer); }
  void round_keys(const forward::KvRows& rows) const override {
    round_rows(spec_.keys, rows.rows_SD);
  }
  void round_values(const forward::KvRows& rows) const override {
    round_rows(spec_.values, rows.rows_SD);
  }

 private:
  KvCacheSpec spec_;
};

class ScaledFp8 : public forward::KvCacheRounding {
 public:
  explicit ScaledFp8(KvNumbersByLayer scales) : scales_(std::move(scales)) {}

  bool rounds(Index layer) const override { return scales_.count(layer) > 0; }
  void round_keys(const forward::KvRows& rows) const override {
    round(rows, scales_.at(rows.layer).keys);
  }
  void round_values(const forward::KvRows& rows) const override {
    round(rows, scales_.at(rows.layer).values);
  }

 private:
  static void round(const forward::KvRows& rows, const std::vector<float>& scales) {
    for (Index s = 0; s < rows.rows_SD.rows(); ++s) {
      const auto head = static_cast<std::size_t>(scales.size() == 1 ? 0 : rows.head_of(s));
      const float scale = scales[head];
      for (Index d = 0; d < rows.rows_SD.cols(); ++d) {
        float& value = rows.rows_SD(s, d);
        value = scale * rounded_to_fp8(value / scale);
      }
    }
  }

  KvNumbersByLayer scales_;
};

double bytes_per_element(KvType type) {
  if (const std::optional<ggml::Type> block = entry_of(type).block)
    return ggml::info_of(*block).bits_per_weight() / 8;
  return type == KvType::kFp8 ? 1 : 2;
}

[[noreturn]] void refuse_layers(const std::string& text, Index count) {
  throw Error(ErrorKind::kConfig, "E243",
              fmt::format("kv_cache layers '{}' is not a list of layers of this model, such as "
                          "0-3,7: it has the layers 0 to {}",
                          text, count - 1));
}

Index layer_from(std::string_view text, const std::string& whole, Index count) {
  Index layer = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0 || layer >= count)
    refuse_layers(whole, count);
  return layer;
}

}  // namespace

KvType kv_type_from(const std::string& name) {
  for (const NamedType& entry : kTypes)
    if (entry.name == name) return entry.type;
  throw Error(ErrorKind::kConfig, "E244",
              fmt::format("unknown type '{}' of a key/value cache; choose f16, fp8, q8_0, q5_1 or "
                          "q4_0",
                          name));
}

std::vector<bool> layers_from(const std::string& text, Index count) {
  if (text.empty()) return {};
  std::vector<bool> layers(static_cast<std::size_t>(count), false);
  std::string_view rest = text;
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const std::size_t dash = item.find('-');
    const Index first = layer_from(item.substr(0, dash), text, count);
    const Index last =
        dash == std::string_view::npos ? first : layer_from(item.substr(dash + 1), text, count);
    if (last < first) refuse_layers(text, count);
    std::fill(layers.begin() + first, layers.begin() + last + 1, true);
    if (comma == std::string_view::npos) return layers;
    rest.remove_prefix(comma + 1);
  }
}

float rounded_to_fp8(float value) { return rounded_to(SmallFloat::kE4M3, value); }

std::shared_ptr<const forward::KvCacheRounding> make_kv_cache_rounding(
    const KvCacheSpec& spec, const model::FamilySpec& family) {
  check_blocks(spec, spec.keys, family);
  check_blocks(spec, spec.values, family);
  return std::make_shared<Rounding>(spec);
}

std::shared_ptr<const forward::KvCacheRounding> make_scaled_fp8_cache(KvNumbersByLayer scales) {
  return std::make_shared<ScaledFp8>(std::move(scales));
}

std::uint64_t kv_cache_bytes(const KvCacheSpec& spec, const model::FamilySpec& family,
                             Index positions) {
  const double rounded = bytes_per_element(spec.keys) + bytes_per_element(spec.values);
  const double as_computed = 2 * bytes_per_element(KvType::kAsComputed);
  double bytes = 0;
  each_cache(family, [&](Index layer, const model::CacheShape& shape) {
    const Index held = shape.window == 0 ? positions : std::min(shape.window, positions);
    bytes += static_cast<double>(held * shape.heads * shape.head_dim) *
             (spec.rounds(layer) ? rounded : as_computed);
  });
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace calque::eval
