#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/core/exec.h"
#include "calque/io/gguf.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/quant/quantized_matrix.h"
#include "calque/text/vocabulary.h"

namespace calque::formats {

// The importance that matrices were rounded by, as llama-quantize notes it (quantize.imatrix.*).
struct ImatrixNote {
  std::string file;     // its name alone
  std::string dataset;  // names of the texts
  std::uint32_t entries = 0;
  std::uint32_t chunks = 0;
};

// What is said about the making of an artifact inside it. No local paths.
struct Provenance {
  std::string quantizer;   // "calque:0.1.0"
  std::string model_name;  // of the source folder
  std::string method;      // "gptq", "rtn", "awq"
  std::string rounding;    // "gptq" or "rtn": what rounded, under "awq" too
  double damp_percent = 0.01;
  bool act_order = true;
  std::optional<ImatrixNote> imatrix;  // gguf; none: rounded without importance
  // gguf; "": not said
  std::string license;     // an identifier, "apache-2.0"
  std::string base_model;  // "org/name" on the Hugging Face hub; without an org it is not said
  std::string quantized_by;
};

// What an earlier process gave to a writer of the same artifact and kept.
struct KeptArtifact {
  std::vector<std::string> tensors;  // given, and whole
  std::string notes;                 // what ArtifactWriter::keep() said
};

// Everything a writer reads from besides what it is given; must outlive it.
struct WriterInputs {
  const model::FamilySpec& family;
  const model::ModelSource& source;
  std::filesystem::path model_folder;            // side files are copied from here
  const text::Vocabulary* vocabulary = nullptr;  // gguf; null: written without a tokenizer ("none")
  Provenance provenance;
  // gguf; of the GGUF file that the weights come from: what it says of the model and its tokenizer
  // is said again, in place of `vocabulary`. Null: none.
  const io::GgufMetadata* carried = nullptr;
  Exec pack = open_exec("cpu");  // gptq, compressed-tensors: packs the codes
  // Not null: goes on with these partial files. Error(kInput, "E308") if they are not there.
  const KeptArtifact* kept = nullptr;
};

// Receives the tensors that were quantized, in any order, and makes the artifact visible in
// finish(). Destroyed before, it leaves nothing behind but what was kept.
class ArtifactWriter {
 public:
  virtual ~ArtifactWriter() = default;
  // For every tensor of the plan with a grid: packed without rounding. `q.grid` equals the plan's.
  virtual void write(const std::string& tensor_name, const quant::QuantizedMatrix& q) = 0;
  // Rows of a tensor whose grid is a GGUF block type, from `first_row` on: instead of write() and
  // in any order, but each row once. Error(kInternal) in formats without such grids.
  virtual void write_rows(const std::string& tensor_name, Index first_row,
                          const quant::QuantizedMatrix& rows);
  // For a tensor of the plan without a grid whose values have changed (a norm or a bias that took
  // up channel scales): stored in the dtype that the plan copies it in. Vectors come as 1 x n.
  virtual void write_dense(const std::string& tensor_name, MatrixView<const float> values) = 0;
  // Writes every other tensor of the plan without a grid from the source (cast where the format
  // says so), and the side files; then renames everything into place. Error(kInternal) if a tensor
  // is missing.
  virtual void finish() = 0;
  // What was given so far is on the disk when this returns, and stays there in partial files if the
  // process ends: another writer with KeptArtifact goes on from there and makes the same artifact.
  // Returns KeptArtifact::notes.
  virtual std::string keep() = 0;
};

std::unique_ptr<ArtifactWriter> open_writer(const ExportPlan& plan, const WriterInputs& inputs);

}  // namespace calque::formats
