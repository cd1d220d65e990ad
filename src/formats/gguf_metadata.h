#pragma once

#include "calque/formats/writer.h"
#include "calque/io/gguf.h"

namespace calque::formats {

// The key-value pairs of a GGUF export as llama.cpp's converter writes them, general.architecture
// first, with two differences: key_length and value_length are always written (loaders guess them
// otherwise), and quantized files state "calque.quantizer" and "calque.method". Without a
// vocabulary, tokenizer.ggml.model is "none"; llama.cpp then invents tokens for the architecture's
// vocab_size and works on ids only. Error(kInput) if the vocabulary has a different number of
// tokens than the embedding has rows.
io::GgufMetadata gguf_metadata(const ExportPlan& plan, const WriterInputs& inputs);

// "8.0B", "1.3M": general.size_label for this many weights, two digits at least.
std::string size_label(double weights);

}  // namespace calque::formats
