// GGUF files under Hugging Face names and in Hugging Face's order of rows.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "artifact/ggml_blocks.h"
#include "artifact/gguf_config.h"
#include "artifact/gguf_types.h"
#include "artifact/open.h"
#include "artifact/wording.h"
#include "calque/core/error.h"

namespace calque::artifact {
namespace {

struct Entry {
  model::TensorSpec spec;
  const io::GgufTensor* stored = nullptr;

  Index rows() const { return spec.shape.size() == 2 ? spec.shape[0] : 1; }
  Index cols() const { return spec.shape.back(); }
};

std::vector<Index> shape_of(const io::GgufTensor& tensor) {
  return {tensor.ne.rbegin(), tensor.ne.rend()};
}

// Writers may drop or keep dimensions of 1: [8] and [8, 1] are the same to loaders.
std::vector<std::uint64_t> without_trailing_ones(std::vector<std::uint64_t> ne) {
  while (ne.size() > 1 && ne.back() == 1) ne.pop_back();
  return ne;
}

Entry entry_of(const io::GgufFile& file, const model::TensorSpec& spec) {
  const io::GgufTensor* stored = file.find_tensor(spec.gguf_name);
  if (stored == nullptr)
    throw Error(ErrorKind::kInput, "",
                fmt::format("{}: tensor '{}' is missing", file.path().string(), spec.gguf_name));
  if (without_trailing_ones(stored->ne) != without_trailing_ones(ne_of(spec.shape)))
    throw Error(
        ErrorKind::kInput, "",
        fmt::format("{}: tensor '{}' has shape {}, the metadata wants {}", file.path().string(),
                    spec.gguf_name, shape_text(shape_of(*stored)), shape_text(spec.shape)));
  return {spec, stored};
}

// Vectors are permuted element by element, matrices row by row.
std::vector<Index> order_of(const model::TensorSpec& spec) {
  return interleaved_rows(spec.shape[0], spec.gguf_permuted_heads);
}

Matrix<float> load_vector(const Entry& entry) {
  Matrix<float> stored =
      decode_blocks(entry.stored->type, entry.stored->bytes, 1, entry.cols(), {});
  const std::vector<Index> order = order_of(entry.spec);
  if (order.empty()) return stored;
  auto values = Matrix<float>::uninitialized(1, entry.cols());
  for (Index i = 0; i < entry.cols(); ++i)
    values(0, order[static_cast<std::size_t>(i)]) = stored(0, i);
  return values;
}

void require_finite(const quant::QuantizedMatrix& q) {
  for (Index n = 0; n < q.scales_NG.rows(); ++n)
    for (Index g = 0; g < q.scales_NG.cols(); ++g)
      if (!std::isfinite(q.scales_NG(n, g)) || !std::isfinite(q.offsets_NG(n, g)))
        throw Error(ErrorKind::kInput, "",
                    fmt::format("row {}, group {} has scale {} and offset {}: the file is damaged",
                                n, g, q.scales_NG(n, g), q.offsets_NG(n, g)));
}

class GgufReader : public ArtifactReader {
 public:
  explicit GgufReader(const std::filesystem::path& path)
      : file_(path), config_(gguf_config(file_)) {
    for (const model::TensorSpec& spec : model::family_of(config_).tensors()) {
      entries_.emplace(spec.name, entry_of(file_, spec));
      names_.emplace(spec.gguf_name, spec.name);
    }
  }

  const std::string& format() const override { return format_; }
  const model::ModelConfig& config() const override { return config_; }
  bool has(std::string_view tensor_name) const override {
    return entries_.find(tensor_name) != entries_.end();
  }

  Matrix<float> load(std::string_view tensor_name) const override {
    const Entry& entry = at(tensor_name);
    return with_context(where(entry), [&] {
      if (entry.spec.shape.size() < 2) return load_vector(entry);
      if (const auto q = quantized(tensor_name)) return quant::dequantize(*q);
      return decode_blocks(entry.stored->type, entry.stored->bytes, entry.rows(), entry.cols(),
                           order_of(entry.spec));
    });
  }

  std::optional<quant::QuantizedMatrix> quantized(std::string_view tensor_name) const override {
    const Entry& entry = at(tensor_name);
    const BlockCodec* codec = find_block_codec(entry.stored->type);
    if (codec == nullptr || entry.spec.shape.size() < 2) return std::nullopt;
    quant::QuantizedMatrix q = unpack_blocks(*codec, entry.stored->bytes, entry.rows(),
                                             entry.cols(), order_of(entry.spec));
    require_finite(q);
    return q;
  }

  std::vector<StoredTensor> tensors() const override {
    std::vector<StoredTensor> result;
    for (const io::GgufTensor& tensor : file_.tensors()) {
      const auto named = names_.find(tensor.name);
      result.push_back({named != names_.end() ? named->second : tensor.name,
                        std::string(io::info_of(tensor.type).name), shape_of(tensor),
                        tensor.bytes.size()});
    }
    return result;
  }

  std::uint64_t file_bytes() const override { return file_.file_bytes(); }

 private:
  const Entry& at(std::string_view tensor_name) const {
    const auto found = entries_.find(tensor_name);
    if (found == entries_.end())
      throw Error(ErrorKind::kInput, "",
                  fmt::format("{}: no tensor '{}'", file_.path().string(), tensor_name));
    return found->second;
  }
  std::string where(const Entry& entry) const {
    return fmt::format("{}: tensor '{}'", file_.path().string(), entry.stored->name);
  }

  io::GgufFile file_;
  model::ModelConfig config_;
  std::string format_ = "gguf";
  std::map<std::string, Entry, std::less<>> entries_;      // by Hugging Face name
  std::map<std::string, std::string, std::less<>> names_;  // GGUF name to Hugging Face name
};

}  // namespace

std::unique_ptr<ArtifactReader> open_gguf(const std::filesystem::path& file) {
  return std::make_unique<GgufReader>(file);
}

}  // namespace calque::artifact
