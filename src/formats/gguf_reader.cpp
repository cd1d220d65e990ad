// Reads GGUF files under Hugging Face names, with rows in Hugging Face's order.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <span>

#include "calque/core/error.h"
#include "calque/model/weight_source.h"
#include "calque/quant/column_order.h"
#include "formats/gguf_config.h"
#include "formats/gguf_tensors.h"
#include "formats/messages.h"
#include "formats/open.h"

namespace calque::formats {
namespace {

// A tensor of the family and its place in the file: a tensor of its own, a slab of a tensor that
// stacks all experts, or the rows of two tensors.
struct Entry {
  model::TensorSpec spec;
  const io::GgufTensor* stored = nullptr;
  std::span<const std::byte> bytes;
  const io::GgufTensor* rest = nullptr;  // the last rows
  float scale = 1;                       // multiplies all values: NVFP4's tensor "<base>.scale"

  Index rows() const {
    return std::accumulate(spec.shape.begin(), spec.shape.end() - 1, Index{1}, std::multiplies<>());
  }
  Index cols() const { return spec.shape.back(); }
  std::uint64_t byte_count() const {
    return bytes.size() + (rest == nullptr ? 0 : rest->bytes.size());
  }
};

std::vector<Index> shape_of(const io::GgufTensor& tensor) {
  return {tensor.ne.rbegin(), tensor.ne.rend()};
}

// Writers may drop or keep dimensions of 1: [8] and [8, 1] are the same to loaders.
std::vector<std::uint64_t> without_trailing_ones(std::vector<std::uint64_t> ne) {
  while (ne.size() > 1 && ne.back() == 1) ne.pop_back();
  return ne;
}

// The stored shape: [out, in], and for stacked tensors the number of experts.
std::vector<std::uint64_t> stored_ne(const model::TensorSpec& spec, Index experts) {
  std::vector<std::uint64_t> ne = ne_of(spec.shape);
  ne.back() -= static_cast<std::uint64_t>(spec.gguf_rest_rows);
  if (spec.gguf_expert >= 0) ne.push_back(static_cast<std::uint64_t>(experts));
  return without_trailing_ones(ne);
}

// Gates and ups are in one tensor.
bool in_pair(const io::GgufFile& file, const model::TensorSpec& spec) {
  return !spec.gguf_pair_name.empty() && file.find_tensor(spec.gguf_name) == nullptr &&
         file.find_tensor(spec.gguf_pair_name) != nullptr;
}

std::span<const std::byte> slab_of(const io::GgufTensor& stored, const model::TensorSpec& spec,
                                   Index experts, bool paired) {
  if (spec.gguf_expert < 0) return stored.bytes;
  const std::size_t parts = paired ? 2 : 1;
  const std::size_t size = stored.bytes.size() / (static_cast<std::size_t>(experts) * parts);
  const std::size_t before = static_cast<std::size_t>(spec.gguf_expert) * parts;
  return stored.bytes.subspan((before + (paired && spec.gguf_pair_second ? 1 : 0)) * size, size);
}

const io::GgufTensor& stored_tensor(const io::GgufFile& file, const std::string& name,
                                    const std::vector<std::uint64_t>& wanted) {
  const io::GgufTensor* stored = file.find_tensor(name);
  if (stored == nullptr)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("{}: tensor '{}' is missing", file.path().string(), name));
  if (without_trailing_ones(stored->ne) != wanted)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("{}: tensor '{}' has shape {}, but the metadata requires {}",
                            file.path().string(), name, shape_text(shape_of(*stored)),
                            shape_text({wanted.rbegin(), wanted.rend()})));
  return *stored;
}

// The graph of llama.cpp multiplies products with a matrix "<base>.weight" by "<base>.scale", one
// F32 number, or one for each stacked expert; only NVFP4 has them.
float scale_of(const io::GgufFile& file, const model::TensorSpec& spec,
               const io::GgufTensor& stored) {
  constexpr std::string_view kWeight = ".weight";
  if (stored.type != ggml::Type::kNVFP4 || !stored.name.ends_with(kWeight)) return 1;
  const std::string base = stored.name.substr(0, stored.name.size() - kWeight.size());
  const io::GgufTensor* tensor = file.find_tensor(base + ".scale");
  if (tensor == nullptr) return 1;
  const std::size_t index = spec.gguf_expert < 0 ? 0 : static_cast<std::size_t>(spec.gguf_expert);
  float scale = 0;
  const bool fits =
      tensor->type == ggml::Type::kF32 && (index + 1) * sizeof(scale) <= tensor->bytes.size();
  if (fits) std::memcpy(&scale, tensor->bytes.data() + index * sizeof(scale), sizeof(scale));
  if (!fits || !(scale > 0) || !std::isfinite(scale))
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("{}: tensor '{}' is no positive F32 number for '{}'",
                            file.path().string(), tensor->name, stored.name));
  return scale;
}

Entry entry_of(const io::GgufFile& file, const model::TensorSpec& spec, Index experts) {
  const bool paired = in_pair(file, spec);
  std::vector<std::uint64_t> ne = stored_ne(spec, experts);
  if (paired) ne[1] *= 2;
  const io::GgufTensor& stored =
      stored_tensor(file, paired ? spec.gguf_pair_name : spec.gguf_name, ne);
  Entry entry{spec, &stored, slab_of(stored, spec, experts, paired)};
  if (spec.gguf_rest_rows > 0)
    entry.rest = &stored_tensor(file, spec.gguf_rest_name,
                                {static_cast<std::uint64_t>(spec.shape.back()),
                                 static_cast<std::uint64_t>(spec.gguf_rest_rows)});
  entry.scale = scale_of(file, spec, stored);
  return entry;
}

// An entry for a tensor that the family does not have, such as rope_freqs.weight, under its own
// name.
Entry entry_of(const io::GgufTensor& stored) {
  model::TensorSpec spec;
  spec.name = stored.name;
  spec.gguf_name = stored.name;
  spec.shape = shape_of(stored);
  return {spec, &stored, stored.bytes};
}

// Vectors are permuted element by element, matrices row by row. If the file stores r = 1 + weight
// in fp32, r - 1 is exact and may differ from the weight by half a last place of r; the norm's
// factor 1 + (r - 1) is r again.
Matrix<float> load_vector(const Entry& entry) {
  Matrix<float> stored = decode_rows(entry.stored->type, entry.bytes, 1, entry.cols(), {});
  if (entry.spec.gguf_plus_one)
    for (Index i = 0; i < entry.cols(); ++i) stored(0, i) -= 1.0f;
  if (entry.spec.gguf_minus_exp)
    for (Index i = 0; i < entry.cols(); ++i) stored(0, i) = std::log(-stored(0, i));
  const std::vector<Index> order = row_order_of(entry.spec);
  if (order.empty()) return stored;
  auto values = Matrix<float>::uninitialized(1, entry.cols());
  for (Index i = 0; i < entry.cols(); ++i)
    values(0, order[static_cast<std::size_t>(i)]) = stored(0, i);
  return values;
}

// A scale that is not finite would spread to everything that the model computes.
void require_finite(const io::GgufTensor& stored, std::span<const std::byte> bytes) {
  const ggml::TypeInfo& info = ggml::info_of(stored.type);
  if (info.block_columns == 1) return;
  const std::string fault = ggml::first_fault(info.type, bytes, stored.ne[0]);
  if (!fault.empty()) throw Error(ErrorKind::kInput, "E174", fault + ": the file is damaged");
}

void require_finite(const Entry& entry) {
  require_finite(*entry.stored, entry.bytes);
  if (entry.rest != nullptr) require_finite(*entry.rest, entry.rest->bytes);
}

void multiply(float scale, Matrix<float>& values) {
  if (scale == 1) return;
  for (Index i = 0; i < values.size(); ++i) values.data()[i] *= scale;
}

// All rows in the tensor's own order.
Matrix<float> load_matrix(const Entry& entry) {
  const std::vector<Index> order = row_order_of(entry.spec);
  Matrix<float> values =
      entry.rest == nullptr
          ? decode_rows(entry.stored->type, entry.bytes, entry.rows(), entry.cols(), order)
          : Matrix<float>::uninitialized(entry.rows(), entry.cols());
  Index file_row = 0;
  const auto place = [&](const io::GgufTensor& stored, Index rows) {
    const Matrix<float> some = decode_rows(stored.type, stored.bytes, rows, entry.cols(), {});
    for (Index r = 0; r < rows; ++r, ++file_row)
      std::copy_n(some.row(r), entry.cols(), values.row(order[static_cast<std::size_t>(file_row)]));
  };
  if (entry.rest != nullptr) {
    place(*entry.stored, entry.rows() - entry.spec.gguf_rest_rows);
    place(*entry.rest, entry.spec.gguf_rest_rows);
  }
  multiply(entry.scale, values);
  return quant::in_own_order(std::move(values), column_order_of(entry.spec));
}

// Rows as stored, for a type that is not a grid of codes.
quant::QuantizedMatrix blocks_of(const Entry& entry, std::span<const std::byte> bytes,
                                 ggml::Type block) {
  quant::QuantizedMatrix q;
  q.grid = quant::block_grid(block);
  q.stored = quant::BlockRows{Matrix<std::uint8_t>::uninitialized(
      entry.rows(), static_cast<Index>(ggml::row_bytes(block, entry.cols())))};
  const std::vector<Index> order = row_order_of(entry.spec);
  const auto row_bytes = static_cast<std::size_t>(q.blocks().rows_NB.cols());
  for (Index r = 0; r < entry.rows(); ++r)
    std::memcpy(q.blocks().rows_NB.row(order.empty() ? r : order[static_cast<std::size_t>(r)]),
                bytes.data() + static_cast<std::size_t>(r) * row_bytes, row_bytes);
  return q;
}

class GgufReader : public ArtifactReader {
 public:
  explicit GgufReader(const std::filesystem::path& path)
      : file_(path), config_(gguf_config(file_)) {
    for (const model::TensorSpec& spec : model::family_of(config_).tensors()) {
      const auto [entry, added] =
          entries_.emplace(spec.name, entry_of(file_, spec, config_.num_experts));
      parts_[entry->second.stored->name].push_back(&entry->second);
      if (entry->second.rest != nullptr) parts_[spec.gguf_rest_name] = {};
    }
    for (const io::GgufTensor& tensor : file_.tensors())
      if (parts_.count(tensor.name) == 0)
        parts_[tensor.name] = {&entries_.emplace(tensor.name, entry_of(tensor)).first->second};
  }

  const std::string& format() const override { return format_; }
  const model::ModelConfig& config() const override { return config_; }
  bool has(std::string_view tensor_name) const override {
    return entries_.find(tensor_name) != entries_.end();
  }

  Matrix<float> load(std::string_view tensor_name) const override {
    const Entry& entry = at(tensor_name);
    const model::TensorBytes let_go_of(entry.bytes, entry.stored->file);
    return with_context(where(entry), [&] {
      require_finite(entry);
      return entry.spec.shape.size() < 2 ? load_vector(entry) : load_matrix(entry);
    });
  }

  // Puts the rows' bytes side by side and decodes them as one matrix.
  Matrix<float> load_rows(std::string_view tensor_name,
                          std::span<const Index> rows_U) const override {
    const Entry& entry = at(tensor_name);
    if (entry.spec.shape.size() != 2 || !entry.spec.same_in_gguf())
      return WeightSource::load_rows(tensor_name, rows_U);
    const model::TensorBytes let_go_of(entry.bytes, entry.stored->file);
    return with_context(where(entry), [&] {
      const std::size_t row_bytes = entry.bytes.size() / static_cast<std::size_t>(entry.rows());
      std::vector<std::byte> some(rows_U.size() * row_bytes);
      for (std::size_t u = 0; u < rows_U.size(); ++u)
        std::memcpy(some.data() + u * row_bytes,
                    entry.bytes.data() + static_cast<std::size_t>(rows_U[u]) * row_bytes,
                    row_bytes);
      require_finite(*entry.stored, some);
      Matrix<float> values = decode_rows(entry.stored->type, some,
                                         static_cast<Index>(rows_U.size()), entry.cols(), {});
      multiply(entry.scale, values);
      return values;
    });
  }

  std::optional<quant::QuantizedMatrix> quantized(std::string_view tensor_name) const override {
    const Entry& entry = at(tensor_name);
    if (entry.spec.shape.size() < 2 || entry.scale != 1) return std::nullopt;
    const model::TensorBytes let_go_of(entry.bytes, entry.stored->file);
    return with_context(where(entry), [&]() -> std::optional<quant::QuantizedMatrix> {
      require_finite(entry);
      const ggml::Type type = entry.stored->type;
      std::vector<std::byte> joined;
      if (entry.rest != nullptr) {
        if (entry.rest->type != type) return std::nullopt;
        joined.assign(entry.bytes.begin(), entry.bytes.end());
        joined.insert(joined.end(), entry.rest->bytes.begin(), entry.rest->bytes.end());
      }
      const std::span<const std::byte> bytes = entry.rest == nullptr ? entry.bytes : joined;
      if (ggml::info_of(type).support == ggml::Support::kGrid)
        return unpack_rows(type, bytes, entry.rows(), entry.cols(), row_order_of(entry.spec));
      if (!ggml::info_of(type).quantized()) return std::nullopt;
      return blocks_of(entry, bytes, type);
    });
  }

  std::vector<StoredTensor> tensors() const override {
    std::vector<StoredTensor> result;
    for (const io::GgufTensor& tensor : file_.tensors())
      for (const Entry* part : parts_.at(tensor.name))
        result.push_back({part->spec.name, std::string(ggml::info_of(tensor.type).name),
                          part->spec.shape, part->byte_count()});
    return result;
  }

  std::uint64_t file_bytes() const override { return file_.file_bytes(); }

 private:
  const Entry& at(std::string_view tensor_name) const {
    const auto found = entries_.find(tensor_name);
    if (found == entries_.end())
      throw Error(ErrorKind::kInput, "E174",
                  fmt::format("{}: no tensor '{}'", file_.path().string(), tensor_name));
    return found->second;
  }
  std::string where(const Entry& entry) const {
    return fmt::format("{}: tensor '{}'", file_.path().string(), entry.stored->name);
  }

  io::GgufFile file_;
  model::ModelConfig config_;
  std::string format_ = "gguf";
  std::map<std::string, Entry, std::less<>> entries_;  // by Hugging Face name
  // By GGUF name; experts in order.
  std::map<std::string, std::vector<const Entry*>, std::less<>> parts_;
};

}  // namespace

std::unique_ptr<ArtifactReader> open_gguf(const std::filesystem::path& file) {
  return std::make_unique<GgufReader>(file);
}

}  // namespace calque::formats
