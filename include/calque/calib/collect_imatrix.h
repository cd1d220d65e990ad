#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/io/imatrix.h"
#include "calque/record/observer.h"
#include "calque/text/corpus.h"
#include "calque/text/tokenizer.h"

namespace calque::calib {

struct ImatrixRequest {
  std::filesystem::path model;               // folder or GGUF file, with tokenizer
  std::vector<std::filesystem::path> texts;  // each also .gz or .zst
  std::int64_t chunk_size = 512;             // tokens
  std::int64_t chunks = 0;                   // chunks per text, from its start; 0: all full ones
  bool parse_special = false;                // text that spells a special token becomes that token
  bool process_output = false;               // also measure the input of the output head
  std::string forward_dtype = "float32";
  int threads = 0;
};

// The texts in order, cut into rows of the request's chunk size. Error(kInput, "E201") for a text
// shorter than one chunk.
text::TokenBlocks imatrix_chunks(const ImatrixRequest& request, const text::Tokenizer& tokenizer);

// Measures the inputs of the unquantized model's linears as llama-imatrix does: each text is
// tokenized as a whole and cut into chunks; BOS overwrites the first token of each chunk if the
// tokenizer adds one. Streams the model block by block: memory holds one block's weights and the
// hidden states of all chunks. The result does not depend on the number of threads.
io::Imatrix collect_imatrix(const ImatrixRequest& request, record::Observer& observer);

}  // namespace calque::calib
