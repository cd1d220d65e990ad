#include "model/stacked_experts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "calque/core/error.h"

namespace calque::model {
namespace {

constexpr Index kBlock = 32;       // MXFP4: values that share a scale
constexpr Index kBlockBytes = 16;  // their codes

std::string shape_text(const io::TensorRef& tensor) {
  return fmt::format("{} [{}]", tensor.name, fmt::join(tensor.shape, ", "));
}

[[noreturn]] void refuse(const io::TensorRef& tensor, const std::string& reason) {
  throw Error(ErrorKind::kInput, "E163", fmt::format("{}: {}", shape_text(tensor), reason));
}

// "model.layers.3.mlp.experts." of a tensor of all experts' projections, and what is stored.
struct StackName {
  std::string folder;
  bool is_down = false;
  enum class Kind { kMatrix, kBias, kBlocks, kScales } kind = Kind::kMatrix;
};

std::optional<StackName> stack_name(std::string_view name) {
  constexpr std::string_view kFolder = "experts.";
  const std::size_t at = name.rfind(kFolder);
  if (at == std::string_view::npos) return std::nullopt;
  StackName stack{.folder = std::string(name.substr(0, at + kFolder.size()))};
  std::string_view rest = name.substr(stack.folder.size());
  for (const std::string_view down : {"gate_up_proj", "down_proj"}) {
    if (!rest.starts_with(down)) continue;
    stack.is_down = down == "down_proj";
    rest.remove_prefix(down.size());
    using Kind = StackName::Kind;
    for (const auto& [suffix, kind] : {std::pair<std::string_view, Kind>{"", Kind::kMatrix},
                                       {"_bias", Kind::kBias},
                                       {"_blocks", Kind::kBlocks},
                                       {"_scales", Kind::kScales}})
      if (rest == suffix) {
        stack.kind = kind;
        return stack;
      }
  }
  return std::nullopt;
}

// The tensor of expert `e`: everything behind the first dimension.
io::TensorRef slab_of(const io::TensorRef& tensor, Index e) {
  io::TensorRef slab = tensor;
  slab.shape.erase(slab.shape.begin());
  const std::size_t bytes = tensor.bytes.size() / static_cast<std::size_t>(tensor.shape[0]);
  slab.bytes = tensor.bytes.subspan(static_cast<std::size_t>(e) * bytes, bytes);
  return slab;
}

// The two halves of gate_up, or the whole of down.
void add_parts(const StackName& name, Index e, StackedPart like, Index rows, Index columns,
               std::vector<StackedPart>& parts) {
  const bool bias = name.kind == StackName::Kind::kBias;
  const auto add = [&](const char* role, Index first, Index count, Index step) {
    StackedPart part = like;
    part.tensor.name = fmt::format("{}{}.{}.{}", name.folder, e, role, bias ? "bias" : "weight");
    part.tensor.shape = bias ? std::vector<Index>{count} : std::vector<Index>{count, columns};
    part.first_row = first;
    part.row_step = step;
    parts.push_back(std::move(part));
  };
  if (name.is_down) return add("down_proj", 0, rows, 1);
  const Index half = rows / 2;
  const bool alternate = like.row_step == 2;
  add("gate_proj", 0, half, alternate ? 2 : 1);
  add("up_proj", alternate ? 1 : half, half, alternate ? 2 : 1);
}

float value_of(unsigned code) {
  constexpr float kMagnitudes[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  return code & 8u ? -kMagnitudes[code & 7u] : kMagnitudes[code & 7u];
}

// Every code under every scale.
using Mxfp4Values = std::array<std::array<BFloat16, 16>, 256>;

const Mxfp4Values& mxfp4_values() {
  static const Mxfp4Values all = [] {
    Mxfp4Values values{};
    for (int exponent = 0; exponent < 256; ++exponent) {
      const float scale = exponent == 255 ? NAN : std::ldexp(1.0f, exponent - 127);
      for (unsigned code = 0; code < 16; ++code)
        values[static_cast<std::size_t>(exponent)][code] = to_bfloat16(value_of(code) * scale);
    }
    return values;
  }();
  return all;
}

// Row `row` of an MXFP4 slab.
void decode_row(const StackedPart& part, Index row, Index columns, std::byte* out) {
  const Index blocks = columns / kBlock;
  const std::byte* codes = part.slab.bytes.data() + row * blocks * kBlockBytes;
  const std::byte* scales = part.scales.bytes.data() + row * blocks;
  const Mxfp4Values& all = mxfp4_values();
  for (Index b = 0; b < blocks; ++b) {
    const std::array<BFloat16, 16>& values = all[std::to_integer<std::size_t>(scales[b])];
    for (Index i = 0; i < kBlockBytes; ++i) {
      const auto pair = std::to_integer<std::size_t>(codes[b * kBlockBytes + i]);
      const BFloat16 two[] = {values[pair & 15u], values[pair >> 4]};
      std::memcpy(out + (b * kBlockBytes + i) * 4, two, 4);
    }
  }
}

// Rows of the part from a slab that is stored as columns, some at a time, so that neighbours in the
// slab are read together.
void gather_columns(const StackedPart& part, std::byte* out) {
  constexpr Index kRowsAtATime = 32;
  const Index rows = part.tensor.shape[0], columns = part.tensor.shape[1];
  const auto width = static_cast<Index>(size_of(part.tensor.dtype));
  const Index all_rows = part.slab.shape[1];
  for (Index first = 0; first < rows; first += kRowsAtATime)
    for (Index c = 0; c < columns; ++c)
      for (Index r = first; r < std::min(rows, first + kRowsAtATime); ++r)
        std::memcpy(
            out + (r * columns + c) * width,
            part.slab.bytes.data() + (c * all_rows + part.first_row + r * part.row_step) * width,
            static_cast<std::size_t>(width));
}

TakenApart mxfp4_parts(const StackName& name, const io::TensorRef& blocks,
                       const io::SafetensorsCheckpoint& checkpoint) {
  std::string scales_name = blocks.name;
  scales_name.replace(scales_name.rfind("_blocks"), 7, "_scales");
  const io::TensorRef& scales = checkpoint.at(scales_name);
  const std::vector<Index>& shape = blocks.shape;
  if (shape.size() != 4 || shape[3] != kBlockBytes || blocks.dtype != DType::kU8 ||
      scales.dtype != DType::kU8 ||
      scales.shape != std::vector<Index>{shape[0], shape[1], shape[2]})
    refuse(blocks, fmt::format("is no MXFP4 tensor with the scales {}", shape_text(scales)));
  TakenApart result{.is_taken = true, .parts = {}, .scales = &scales};
  for (Index e = 0; e < shape[0]; ++e) {
    StackedPart like{.slab = slab_of(blocks, e), .scales = slab_of(scales, e), .row_step = 2};
    like.tensor.dtype = DType::kBF16;
    like.tensor.in_mxfp4 = true;
    add_parts(name, e, like, shape[1], shape[2] * kBlock, result.parts);
  }
  return result;
}

// transformers 5 saves as rows what was published as columns: down is [E, H, I] then, and gate_up
// [E, 2 I, H].
bool are_rows(const StackName& name, const io::TensorRef& tensor,
              const io::SafetensorsCheckpoint& checkpoint) {
  const io::TensorRef* other =
      checkpoint.find(name.folder + (name.is_down ? "gate_up_proj" : "down_proj"));
  const io::TensorRef* down = name.is_down ? &tensor : other;
  const io::TensorRef* gate_up = name.is_down ? other : &tensor;
  return other != nullptr && other->shape.size() == 3 && tensor.shape.size() == 3 &&
         gate_up->shape[1] == 2 * down->shape[2] && gate_up->shape[2] == down->shape[1];
}

}  // namespace

std::span<const std::byte> StackedPart::contiguous_bytes() const {
  const std::size_t row = tensor.byte_count() / static_cast<std::size_t>(tensor.shape[0]);
  return slab.bytes.subspan(static_cast<std::size_t>(first_row) * row, tensor.byte_count());
}

std::vector<std::byte> StackedPart::gathered_bytes() const {
  const Index rows = tensor.shape[0];
  const Index columns = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
  const auto width = static_cast<Index>(size_of(tensor.dtype));
  std::vector<std::byte> out(tensor.byte_count());
  if (is_transposed) {
    gather_columns(*this, out.data());
    return out;
  }
  for (Index r = 0; r < rows; ++r) {
    const Index row = first_row + r * row_step;
    std::byte* to = out.data() + r * columns * width;
    if (!scales.bytes.empty()) {
      decode_row(*this, row, columns, to);
    } else {
      std::memcpy(to, slab.bytes.data() + row * columns * width,
                  static_cast<std::size_t>(columns * width));
    }
  }
  return out;
}

std::vector<std::byte> StackedPart::mxfp4_blocks() const {
  const Index rows = tensor.shape[0], blocks = tensor.shape[1] / kBlock;
  std::vector<std::byte> out(static_cast<std::size_t>(rows * blocks * (1 + kBlockBytes)));
  std::byte* to = out.data();
  for (Index r = 0; r < rows; ++r)
    for (Index b = 0; b < blocks; ++b) {
      const Index at = (first_row + r * row_step) * blocks + b;
      const std::byte* codes = slab.bytes.data() + at * kBlockBytes;
      const auto code = [&](Index i) {
        return i % 2 == 0 ? codes[i / 2] & std::byte{15} : codes[i / 2] >> 4;
      };
      *to++ = scales.bytes[static_cast<std::size_t>(at)];
      for (Index i = 0; i < kBlockBytes; ++i) *to++ = code(i) | code(i + kBlockBytes) << 4;
    }
  return out;
}

TakenApart take_apart(const io::TensorRef& tensor, StackedExperts layout,
                      const io::SafetensorsCheckpoint& checkpoint) {
  using Kind = StackName::Kind;
  if (layout == StackedExperts::kNone) return {};
  const std::optional<StackName> name = stack_name(tensor.name);
  if (!name) return {};
  if (name->kind == Kind::kScales) return {.is_taken = true};
  if (name->kind == Kind::kBlocks) return mxfp4_parts(*name, tensor, checkpoint);
  const bool bias = name->kind == Kind::kBias;
  if (tensor.shape.size() != (bias ? 2 : 3))
    refuse(tensor, fmt::format("must have {} dimensions, the first for experts", bias ? 2 : 3));
  StackedPart like;
  like.tensor.dtype = tensor.dtype;
  like.is_transposed = !bias && layout != StackedExperts::kRows &&
                       !(layout == StackedExperts::kColumns && are_rows(*name, tensor, checkpoint));
  like.row_step = layout == StackedExperts::kAlternatingColumns ? 2 : 1;
  const Index rows = tensor.shape[like.is_transposed ? 2 : 1];
  const Index columns = bias ? 1 : tensor.shape[like.is_transposed ? 1 : 2];
  if (!name->is_down && rows % 2 != 0) refuse(tensor, "must have as many rows of gate as of up");
  TakenApart result{.is_taken = true};
  for (Index e = 0; e < tensor.shape[0]; ++e) {
    like.slab = slab_of(tensor, e);
    add_parts(*name, e, like, rows, columns, result.parts);
  }
  return result;
}

}  // namespace calque::model
