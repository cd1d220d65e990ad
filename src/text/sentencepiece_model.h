#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace calque::text {

// The contents of a SentencePiece tokenizer.model (a protocol buffer; field numbers from
// sentencepiece_model.proto of the SentencePiece project).
struct SentencePieceModel {
  enum class PieceType : std::int32_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };
  enum class Algorithm { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

  std::vector<Piece> pieces;  // by id
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  std::string serialized;  // the file

  // The id of the piece; -1 if there is none.
  std::int32_t find(std::string_view text) const;
};

// Parses a serialized model; Error(kInput) with the offset of the damage.
SentencePieceModel parse_sentencepiece_model(std::string serialized);

// Reads a model; Error(kInput) with the file and the offset of the damage.
SentencePieceModel read_sentencepiece_model(const std::filesystem::path& file);

}  // namespace calque::text
