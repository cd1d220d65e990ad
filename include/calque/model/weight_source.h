#pragma once

#include <map>
#include <string>
#include <string_view>

#include "calque/core/matrix.h"
#include "calque/io/safetensors.h"
#include "calque/model/family.h"

namespace calque::model {

// Where weights come from: a checkpoint, or an artifact that is dequantized on the way.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual bool has(std::string_view tensor_name) const = 0;
  // fp32, in Hugging Face orientation [out, in]; a vector [n] comes as 1 x n. Error(kInput) naming
  // the tensor if it is missing or not floating. Thread-safe.
  virtual Matrix<float> load(std::string_view tensor_name) const = 0;
};

// A plain checkpoint.
class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const io::SafetensorsCheckpoint& checkpoint)
      : checkpoint_(checkpoint) {}
  bool has(std::string_view tensor_name) const override;
  Matrix<float> load(std::string_view tensor_name) const override;

 private:
  const io::SafetensorsCheckpoint& checkpoint_;
};

// Checks that the checkpoint holds every tensor of the family with its shape, and no other. Reports
// all faults at once, Error(kInput). Reads headers only.
void check_against_family(const io::SafetensorsCheckpoint& checkpoint, const FamilySpec& family);

// The fp32 tensors of one block, by tensor name.
class BlockWeights {
 public:
  bool has(const std::string& tensor_name) const { return tensors_.count(tensor_name) > 0; }
  MatrixView<const float> at(const std::string& tensor_name) const;
  MatrixView<float> at(const std::string& tensor_name);
  Matrix<float> take(const std::string& tensor_name);  // leaves the name without a value until put
  void put(const std::string& tensor_name, Matrix<float> value);

 private:
  std::map<std::string, Matrix<float>> tensors_;
};

// Loads every tensor of the block and checks shapes. Non-finite weights are Error(kInput) naming
// tensor, row and column.
BlockWeights load_block(const WeightSource& source, const BlockSpec& block);

}  // namespace calque::model
