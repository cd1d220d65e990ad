#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/model/family.h"

namespace calque::model {

// Source of fp32 weights: a checkpoint, or an artifact that is dequantized while loading.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual bool has(std::string_view tensor_name) const = 0;
  // fp32, in Hugging Face orientation [out, in]; a vector [n] comes as 1 x n. Error(kInput) naming
  // the tensor if it is missing or not floating. Thread-safe.
  virtual Matrix<float> load(std::string_view tensor_name) const = 0;
  // Rows `rows_U` of a matrix (ascending, each a valid row). If the source can, it reads only these
  // rows; otherwise it goes through load().
  virtual Matrix<float> load_rows(std::string_view tensor_name,
                                  std::span<const Index> rows_U) const;
};

// Properties of a tensor that are known before its values are read.
struct SourceTensor {
  std::string name;  // Hugging Face's
  DType dtype = DType::kF32;
  std::vector<Index> shape;  // Hugging Face's: [out, in] or [n]
  bool in_mxfp4 = false;     // stored so, and given out as BF16, which holds every value

  Index element_count() const;
  std::uint64_t byte_count() const;    // as it is given out
  std::uint64_t stored_bytes() const;  // as it is stored
};

// The stored bytes of one tensor: owned, or borrowed from a mapped file, whose pages are then
// dropped on destruction.
class TensorBytes {
 public:
  TensorBytes(std::span<const std::byte> borrowed, const io::MappedFile* file)
      : bytes_(borrowed), file_(file) {}
  explicit TensorBytes(std::vector<std::byte> owned) : owned_(std::move(owned)), bytes_(owned_) {}
  TensorBytes(const TensorBytes&) = delete;
  TensorBytes& operator=(const TensorBytes&) = delete;
  ~TensorBytes();

  std::span<const std::byte> get() const { return bytes_; }  // may be unaligned
  // Drops the pages of `count` bytes from `first` on early.
  void drop(std::size_t first, std::size_t count) const;

 private:
  std::vector<std::byte> owned_;
  std::span<const std::byte> bytes_;
  const io::MappedFile* file_ = nullptr;
};

// A tensor of the file that is given out in parts: one matrix an expert (StackedExperts).
struct StoredStack {
  std::vector<SourceTensor> stored;  // the tensor; MXFP4: its blocks and their scales
  std::vector<std::string> parts;    // names of the matrices
};

// The model that a job starts from, tensor by tensor, as its file stores it.
class ModelSource : public WeightSource {
 public:
  const std::vector<SourceTensor>& tensors() const { return tensors_; }  // in the file's order
  // The stored tensors that tensors() has in parts. find, at and bytes know them, too.
  const std::vector<StoredStack>& stacks() const { return stacks_; }
  const SourceTensor* find(std::string_view tensor_name) const;  // null: none
  // As find, but a missing tensor is Error(kInput) with the nearest existing name.
  const SourceTensor& at(std::string_view tensor_name) const;
  virtual std::uint64_t total_bytes() const;  // size of the tensor data as stored
  bool has(std::string_view tensor_name) const override { return find(tensor_name) != nullptr; }

  // The values in the dtype given by at(), in Hugging Face's row order. Thread-safe.
  virtual TensorBytes bytes(std::string_view tensor_name) const = 0;
  // The rows of a tensor `in_mxfp4`, in blocks as ggml/types has them.
  virtual std::vector<std::byte> mxfp4_blocks(std::string_view tensor_name) const;
  // Hints that the tensor will be read soon, so that a mapped file can be read ahead.
  virtual void prefetch(std::string_view tensor_name) const { at(tensor_name); }

 protected:
  ModelSource(std::string where, std::vector<SourceTensor> tensors,
              std::vector<StoredStack> stacks = {});
  ModelSource(const ModelSource&) = delete;
  ModelSource& operator=(const ModelSource&) = delete;

 private:
  std::string where_;  // for messages
  std::vector<SourceTensor> tensors_;
  std::vector<StoredStack> stacks_;
  std::map<std::string, const SourceTensor*, std::less<>> index_;
};

// A plain checkpoint. Tensors of all experts of a layer are given out in parts, as `layout` says.
class CheckpointSource : public ModelSource {
 public:
  explicit CheckpointSource(const std::filesystem::path& folder,
                            StackedExperts layout = StackedExperts::kNone);
  explicit CheckpointSource(const io::SafetensorsCheckpoint& checkpoint,  // borrowed
                            StackedExperts layout = StackedExperts::kNone);
  ~CheckpointSource() override;
  Matrix<float> load(std::string_view tensor_name) const override;
  Matrix<float> load_rows(std::string_view tensor_name,
                          std::span<const Index> rows_U) const override;
  TensorBytes bytes(std::string_view tensor_name) const override;
  std::vector<std::byte> mxfp4_blocks(std::string_view tensor_name) const override;
  void prefetch(std::string_view tensor_name) const override;
  std::uint64_t total_bytes() const override { return checkpoint_.total_bytes(); }

 private:
  struct Contents;  // tensors, stacks and parts
  CheckpointSource(std::unique_ptr<io::SafetensorsCheckpoint> owned, StackedExperts layout);
  CheckpointSource(std::unique_ptr<io::SafetensorsCheckpoint>&& owned,
                   const io::SafetensorsCheckpoint& checkpoint, Contents contents);

  std::unique_ptr<io::SafetensorsCheckpoint> owned_;
  const io::SafetensorsCheckpoint& checkpoint_;
  std::unique_ptr<const Contents> contents_;
};

// Finds the names under which the source has the language model: "model.layers", or those of the
// wrappers that transformers has written ("language_model.model.layers",
// "model.language_model.layers").
void settle_names(const ModelSource& source, ModelConfig& config);

// Adds the tensors of the source that the family does not know, and that lie outside of its blocks,
// to FamilySpec::carried. Those of no part that calque knows by name are told in a remark.
void carry_others(const ModelSource& source, FamilySpec& family);

// Checks that the source holds every tensor of the family with its shape, and no others but those
// it carries. Reports all faults in one Error(kInput). Reads headers only.
void check_against_family(const ModelSource& source, const FamilySpec& family);

// The fp32 tensors of one block, by tensor name.
class BlockWeights {
 public:
  bool has(const std::string& tensor_name) const { return tensors_.count(tensor_name) > 0; }
  MatrixView<const float> at(const std::string& tensor_name) const;
  MatrixView<float> at(const std::string& tensor_name);
  Matrix<float> take(
      const std::string& tensor_name);  // the name has no value until put() is called
  void put(const std::string& tensor_name, Matrix<float> value);

 private:
  std::map<std::string, Matrix<float>> tensors_;
};

// Error(kInput, "E164") if a number is infinite or NaN, with tensor, row, column and value.
// `values` are rows of the tensor from `first_row` on; a vector is one row.
void require_finite(std::string_view tensor_name, MatrixView<const float> values,
                    Index first_row = 0);
// The same for all of a tensor, as its file stores it.
void require_finite(const SourceTensor& tensor, std::span<const std::byte> stored);

// Loads every tensor of the block and checks shapes and that all weights are finite.
BlockWeights load_block(const WeightSource& source, const BlockSpec& block);

}  // namespace calque::model
