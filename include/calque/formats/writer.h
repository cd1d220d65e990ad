#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calque/core/exec.h"
#include "calque/core/kv_scales.h"
#include "calque/formats/plan.h"
#include "calque/io/gguf.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/quant/quantized_matrix.h"
#include "calque/text/vocabulary.h"

namespace calque::formats {

// The importance matrix used for rounding, in llama-quantize's terms (quantize.imatrix.*).
struct ImatrixNote {
  std::string file;     // file name without folder
  std::string dataset;  // names of the texts
  std::uint32_t entries = 0;
  std::uint32_t chunks = 0;
};

// Facts about the making of an artifact that are stored inside it. No local paths.
struct Provenance {
  std::string quantizer;   // "calque:0.1.0"
  std::string model_name;  // name of the source folder
  std::string method;      // "gptq", "rtn", "awq"
  std::string rounding;    // "gptq" or "rtn": the rounding method, also under "awq"
  double damp_percent = 0.01;
  bool act_order = true;
  std::optional<ImatrixNote> imatrix;  // gguf; none: rounded without importance
  // gguf only; "": not written
  std::string license;     // an identifier, "apache-2.0"
  std::string base_model;  // "org/name" on the Hugging Face hub; without an org it is not written
  std::string quantized_by;
};

// State of an artifact that an earlier process began and kept.
struct KeptArtifact {
  std::vector<std::string> tensors;  // written completely
  std::string notes;                 // returned by ArtifactWriter::keep()
};

// Everything else that a writer reads; must outlive it.
struct WriterInputs {
  const model::FamilySpec& family;
  const model::ModelSource& source;
  std::filesystem::path model_folder;  // side files are copied from here
  // gguf, and folders made from a GGUF file; null: no tokenizer ("none").
  const text::Vocabulary* vocabulary = nullptr;
  Provenance provenance;
  // Metadata of the source GGUF file; null if the source is not one. gguf repeats its keys on the
  // model and the tokenizer, in place of `vocabulary`; folders get files made from them.
  const io::GgufMetadata* carried = nullptr;
  Exec pack = open_exec("cpu");  // gptq, compressed-tensors: device that packs the codes
  // If not null, continues these partial files. Error(kInput, "E308") if they are missing.
  const KeptArtifact* kept = nullptr;
};

// Receives the quantized tensors, in any order, and makes the artifact visible in finish(). If
// destroyed before that, it leaves behind only what was kept.
class ArtifactWriter {
 public:
  virtual ~ArtifactWriter() = default;
  // Call for every tensor of the plan with a grid. Packs without rounding; `q.grid` equals the
  // plan's.
  virtual void write(const std::string& tensor_name, const quant::QuantizedMatrix& q) = 0;
  // Writes rows of a GGUF block tensor from `first_row` on, instead of write(). Any order is fine,
  // but each row only once. Error(kInternal) in formats without block types.
  virtual void write_rows(const std::string& tensor_name, Index first_row,
                          const quant::QuantizedMatrix& rows);
  // Writes a tensor without a grid whose values have changed (a norm or bias that absorbed channel
  // scales), in the dtype that the plan gives it. Vectors come as 1 x n.
  virtual void write_dense(const std::string& tensor_name, MatrixView<const float> values) = 0;
  // The largest magnitudes [heads] of a layer's keys and values, for exports that store scales of
  // them (ExportRequest::kv_cache); others ignore it. Once for each layer that has keys.
  virtual void write_kv_peaks(Index layer, const KvNumbers& largest);
  // Copies every other tensor without a grid from the source (converted if the format requires it)
  // and the side files, then renames everything into place. Error(kInternal) if a tensor is
  // missing.
  virtual void finish() = 0;
  // Syncs everything written so far. It stays on disk in partial files if the process ends, and
  // another writer with KeptArtifact continues it to the same artifact. Returns
  // KeptArtifact::notes.
  virtual std::string keep() = 0;
};

std::unique_ptr<ArtifactWriter> open_writer(const ExportPlan& plan, const WriterInputs& inputs);

}  // namespace calque::formats
