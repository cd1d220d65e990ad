#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "calque/calib/collect_imatrix.h"
#include "calque/core/dtype.h"
#include "calque/formats/reader.h"
#include "calque/io/safetensors.h"
#include "calque/model/family.h"
#include "support/demo_job.h"
#include "support/paths.h"

namespace calque::pipeline {

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(test::fixtures()) / name;
}

inline std::filesystem::path imatrix_text() { return fixture("artifacts/gguf/imatrix_text.txt"); }

inline void copy_tokenizer(const std::filesystem::path& folder) {
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"})
    std::filesystem::copy_file(fixture("artifacts/source") / name, folder / name);
}

// The model of tests/fixtures/gguf as a Hugging Face folder: its F16 file holds all values exactly.
inline void write_tiny_model(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  copy_tokenizer(folder);
  std::filesystem::copy_file(fixture("artifacts/source/config.json"), folder / "config.json");
  const auto source = formats::open_artifact(fixture("artifacts/gguf/tiny-f16.gguf"));
  std::vector<io::TensorDeclaration> declared;
  for (const model::TensorSpec& tensor : model::family_of(model::load_config(folder)).tensors())
    declared.push_back({tensor.name, DType::kF16, tensor.shape});
  io::SafetensorsWriter writer(folder, declared);
  for (const io::TensorDeclaration& tensor : declared) {
    const Matrix<float> values = source->load(tensor.name);
    std::vector<std::byte> bytes(tensor.byte_count());
    convert_from_float(values.data(), DType::kF16, static_cast<std::size_t>(values.size()),
                       bytes.data());
    writer.write(tensor.name, bytes);
  }
  writer.finish();
}

// The chunks of a request as token ids that a job can read: `folder`/model.safetensors.
inline void write_chunks(const std::filesystem::path& folder,
                         const calib::ImatrixRequest& request) {
  const text::TokenBlocks chunks = imatrix_chunks(request, *text::load_tokenizer(request.model));
  const Matrix<std::int32_t>& ids_BS = chunks.ids_BS;
  io::SafetensorsWriter writer(folder,
                               {{"input_ids", DType::kI32, {ids_BS.rows(), ids_BS.cols()}}});
  writer.write("input_ids",
               std::as_bytes(std::span(ids_BS.data(), static_cast<std::size_t>(ids_BS.size()))));
  writer.finish();
}

// The request that tests/fixtures/gguf/tiny-imatrix.gguf was measured with.
inline calib::ImatrixRequest golden_request(const std::filesystem::path& folder) {
  calib::ImatrixRequest request;
  request.model = folder;
  request.texts = {imatrix_text()};
  request.chunk_size = 128;
  request.chunks = 16;
  return request;
}

}  // namespace calque::pipeline
