#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/model/weight_source.h"
#include "model/stacked_experts.h"

namespace calque::model {
namespace {

SourceTensor header_of(const io::TensorRef& tensor) {
  return {tensor.name, tensor.dtype, tensor.shape};
}

// Its pages are not read again soon; if another part has some of them, the page cache does.
void let_go_of(const StackedPart& part) {
  for (const io::TensorRef* stored : {&part.slab, &part.scales})
    if (stored->file != nullptr) stored->file->drop(stored->bytes);
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

// MXFP4: 17 bytes hold 32 values.
std::uint64_t SourceTensor::stored_bytes() const {
  return in_mxfp4 ? static_cast<std::uint64_t>(element_count()) / 32 * 17 : byte_count();
}

void TensorBytes::drop(std::size_t first, std::size_t count) const {
  if (file_ != nullptr) file_->drop(bytes_.subspan(first, count));
}

TensorBytes::~TensorBytes() {
  if (file_ != nullptr) file_->drop(bytes_);
}

ModelSource::ModelSource(std::string where, std::vector<SourceTensor> tensors,
                         std::vector<StoredStack> stacks)
    : where_(std::move(where)), tensors_(std::move(tensors)), stacks_(std::move(stacks)) {
  for (const SourceTensor& tensor : tensors_) index_.emplace(tensor.name, &tensor);
  for (const StoredStack& stack : stacks_)
    for (const SourceTensor& tensor : stack.stored) index_.emplace(tensor.name, &tensor);
}

const SourceTensor* ModelSource::find(std::string_view tensor_name) const {
  const auto found = index_.find(tensor_name);
  return found == index_.end() ? nullptr : found->second;
}

const SourceTensor& ModelSource::at(std::string_view tensor_name) const {
  if (const SourceTensor* tensor = find(tensor_name)) return *tensor;
  std::vector<std::string_view> names;
  for (const SourceTensor& tensor : tensors_) names.push_back(tensor.name);
  const std::string hint =
      names.empty() ? "it holds none"
                    : "the nearest name there is " + quote_name(nearest_name(tensor_name, names));
  throw Error(ErrorKind::kInput, "E163",
              fmt::format("{}: has no tensor {}; {}", where_, quote_name(tensor_name), hint));
}

std::vector<std::byte> ModelSource::mxfp4_blocks(std::string_view tensor_name) const {
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{} is not stored in MXFP4", quote_name(tensor_name)));
}

std::uint64_t ModelSource::total_bytes() const {
  std::uint64_t total = 0;
  for (const SourceTensor& tensor : tensors_) total += tensor.byte_count();
  return total;
}

struct CheckpointSource::Contents {
  std::vector<SourceTensor> tensors;
  std::vector<StoredStack> stacks;
  std::map<std::string, StackedPart, std::less<>> parts;

  Contents(const io::SafetensorsCheckpoint& checkpoint, StackedExperts layout) {
    for (const io::TensorRef& tensor : checkpoint.tensors()) {
      TakenApart taken = take_apart(tensor, layout, checkpoint);
      if (!taken.is_taken) tensors.push_back(header_of(tensor));
      if (taken.parts.empty()) continue;
      StoredStack stack{{header_of(tensor)}, {}};
      if (const io::TensorRef* scales = taken.scales) stack.stored.push_back(header_of(*scales));
      for (StackedPart& part : taken.parts) {
        tensors.push_back(part.tensor);
        stack.parts.push_back(part.tensor.name);
        parts.emplace(part.tensor.name, std::move(part));
      }
      stacks.push_back(std::move(stack));
    }
  }

  const StackedPart* part(std::string_view name) const {
    const auto found = parts.find(name);
    return found == parts.end() ? nullptr : &found->second;
  }
};

CheckpointSource::CheckpointSource(const std::filesystem::path& folder, StackedExperts layout)
    : CheckpointSource(std::make_unique<io::SafetensorsCheckpoint>(folder), layout) {}

CheckpointSource::CheckpointSource(const io::SafetensorsCheckpoint& checkpoint,
                                   StackedExperts layout)
    : CheckpointSource(std::unique_ptr<io::SafetensorsCheckpoint>(), checkpoint,
                       Contents(checkpoint, layout)) {}

CheckpointSource::CheckpointSource(std::unique_ptr<io::SafetensorsCheckpoint> owned,
                                   StackedExperts layout)
    : CheckpointSource(std::move(owned), *owned, Contents(*owned, layout)) {}

CheckpointSource::CheckpointSource(std::unique_ptr<io::SafetensorsCheckpoint>&& owned,
                                   const io::SafetensorsCheckpoint& checkpoint, Contents contents)
    : ModelSource(folder_of(checkpoint), std::move(contents.tensors), std::move(contents.stacks)),
      owned_(std::move(owned)),
      checkpoint_(checkpoint),
      contents_(std::make_unique<const Contents>(std::move(contents))) {}

CheckpointSource::~CheckpointSource() = default;

Matrix<float> CheckpointSource::load(std::string_view tensor_name) const {
  const TensorBytes stored = bytes(tensor_name);
  const SourceTensor& header = at(tensor_name);
  const io::TensorRef tensor{header.name, header.dtype, header.shape, stored.get(), nullptr};
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
  const StackedPart* part = contents_->part(tensor_name);
  if (part == nullptr) {
    const io::TensorRef& tensor = checkpoint_.at(tensor_name);
    return {tensor.bytes, tensor.file};
  }
  if (part->is_contiguous()) return {part->contiguous_bytes(), part->slab.file};
  std::vector<std::byte> gathered = part->gathered_bytes();
  let_go_of(*part);
  return TensorBytes(std::move(gathered));
}

std::vector<std::byte> CheckpointSource::mxfp4_blocks(std::string_view tensor_name) const {
  if (!at(tensor_name).in_mxfp4) return ModelSource::mxfp4_blocks(tensor_name);
  const StackedPart& part = *contents_->part(tensor_name);
  std::vector<std::byte> blocks = part.mxfp4_blocks();
  let_go_of(part);
  return blocks;
}

void CheckpointSource::prefetch(std::string_view tensor_name) const {
  const StackedPart* part = contents_->part(tensor_name);
  const io::TensorRef& tensor = part == nullptr ? checkpoint_.at(tensor_name) : part->slab;
  if (tensor.file != nullptr) tensor.file->will_need(tensor.bytes);
}

}  // namespace calque::model
