#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/model/weight_source.h"

namespace calque::model {
namespace {

std::vector<SourceTensor> headers_of(const io::SafetensorsCheckpoint& checkpoint) {
  std::vector<SourceTensor> tensors;
  for (const io::TensorRef& tensor : checkpoint.tensors())
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
  return tensors;
}

std::string folder_of(const io::SafetensorsCheckpoint& checkpoint) {
  return checkpoint.files().front().parent_path().string();
}

}  // namespace

Index SourceTensor::element_count() const {
  Index count = 1;
  for (const Index n : shape) count *= n;
  return count;
}

std::uint64_t SourceTensor::byte_count() const {
  return static_cast<std::uint64_t>(element_count()) * size_of(dtype);
}

void TensorBytes::drop(std::size_t first, std::size_t count) const {
  if (file_ != nullptr) file_->drop(bytes_.subspan(first, count));
}

TensorBytes::~TensorBytes() {
  if (file_ != nullptr) file_->drop(bytes_);
}

ModelSource::ModelSource(std::string where, std::vector<SourceTensor> tensors)
    : where_(std::move(where)), tensors_(std::move(tensors)) {
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const SourceTensor* ModelSource::find(std::string_view tensor_name) const {
  const auto found = index_.find(tensor_name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const SourceTensor& ModelSource::at(std::string_view tensor_name) const {
  if (const SourceTensor* tensor = find(tensor_name)) return *tensor;
  std::vector<std::string_view> names;
  for (const SourceTensor& tensor : tensors_) names.push_back(tensor.name);
  const std::string hint =
      names.empty() ? "it holds none"
                    : "the nearest name there is " + quote_name(nearest_name(tensor_name, names));
  throw Error(ErrorKind::kInput, "",
              fmt::format("{}: has no tensor {}; {}", where_, quote_name(tensor_name), hint));
}

std::uint64_t ModelSource::total_bytes() const {
  std::uint64_t total = 0;
  for (const SourceTensor& tensor : tensors_) total += tensor.byte_count();
  return total;
}

CheckpointSource::CheckpointSource(const std::filesystem::path& folder)
    : CheckpointSource(std::make_unique<io::SafetensorsCheckpoint>(folder)) {}

CheckpointSource::CheckpointSource(const io::SafetensorsCheckpoint& checkpoint)
    : ModelSource(folder_of(checkpoint), headers_of(checkpoint)), checkpoint_(checkpoint) {}

CheckpointSource::CheckpointSource(std::unique_ptr<io::SafetensorsCheckpoint> owned)
    : ModelSource(folder_of(*owned), headers_of(*owned)),
      owned_(std::move(owned)),
      checkpoint_(*owned_) {}

Matrix<float> CheckpointSource::load(std::string_view tensor_name) const {
  const io::TensorRef& tensor = checkpoint_.at(tensor_name);
  const TensorBytes let_go_of = bytes(tensor_name);
  if (tensor.shape.size() != 1) return io::to_matrix(tensor);
  const std::vector<float> values = io::to_vector(tensor);
  return Matrix<float>::copy_of({values.data(), 1, static_cast<Index>(values.size())});
}

Matrix<float> CheckpointSource::load_rows(std::string_view tensor_name,
                                          std::span<const Index> rows_U) const {
  const SourceTensor& tensor = at(tensor_name);
  if (tensor.shape.size() != 2 || !is_floating(tensor.dtype))
    return WeightSource::load_rows(tensor_name, rows_U);
  constexpr std::size_t kBytesAtATime = std::size_t{16} << 20;
  const auto columns = static_cast<std::size_t>(tensor.shape[1]);
  const std::size_t row_bytes = columns * size_of(tensor.dtype);
  const TensorBytes stored = bytes(tensor_name);
  auto result = Matrix<float>::uninitialized(static_cast<Index>(rows_U.size()), tensor.shape[1]);
  std::size_t dropped = 0;
  for (Index u = 0; u < result.rows(); ++u) {
    const std::size_t first =
        static_cast<std::size_t>(rows_U[static_cast<std::size_t>(u)]) * row_bytes;
    convert_to_float(stored.get().data() + first, tensor.dtype, columns, result.row(u));
    if (first - dropped < kBytesAtATime) continue;
    stored.drop(dropped, first - dropped);
    dropped = first;
  }
  return result;
}

TensorBytes CheckpointSource::bytes(std::string_view tensor_name) const {
  const io::TensorRef& tensor = checkpoint_.at(tensor_name);
  return {tensor.bytes, tensor.file};
}

void CheckpointSource::prefetch(std::string_view tensor_name) const {
  const io::TensorRef& tensor = checkpoint_.at(tensor_name);
  if (tensor.file != nullptr) tensor.file->will_need(tensor.bytes);
}

}  // namespace calque::model
