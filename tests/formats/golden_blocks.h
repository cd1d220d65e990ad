#pragma once

#include <string_view>

namespace calque::formats::testing {

// First blocks of a vector quantized by ggml's own reference quantizers (ggml 0.21.0, no importance
// matrix). The vector: s = 1; s = s * 1664525 + 1013904223 mod 2^32; x = ((s >> 16) - 32768) /
// 32768.
struct GoldenBlock {
  std::string_view type;
  std::string_view hex;
};
inline constexpr GoldenBlock kGoldenBlocks[] = {
    {"Q4_0", "bc2fe456b89b31161d5920ba94674acef43f"},
    {"Q4_1", "1d30bcbbd355a88b31151c5820ba946649bde33f"},
    {"Q5_0", "bc2bccb20d66c7ac6017713c29a2407538cd838be75f"},
    {"Q5_1", "f72bbcbbccb20d66b7ab5016613b28a1406428cd828ad75f"},
    {"Q8_0", "cc1fbbde01368ade480f8125beec1858ba7e5fd33008b5988fd09f3616e0c24271ab"},
    {"Q2_K",
     "ffccbcdcdeeeebffffeceeccdccdcb5ae5fd868af46d1e5aec3e61555ac3b5a3abed6642dca4bc51"
     "a412f6f11d5693087a5979156442ebd22eca89867bd56aa61618788e1fac545fa1b9d1a2c3294538"
     "8f292f2c"},
    {"Q3_K",
     "fab8ffbfca907515f83122b7f50ffadbfecf0c51db0d6f592d006c2d7784e88366933431c1a306d8"
     "7151ae8499be126f15dd0ed0fe4b7f326fa2ffb54e8e345778b4b0f09d411ba6cc96c7117b7b560d"
     "a54dc8f963a9c4c7ae9f0e7f3a7b368d117778a88b8367700cc3c3f027a1"},
    {"Q4_K",
     "8a181124fefbfafffcfcfdfebccafc2453f5678a70f5dbb8e0f92356a82c732e9cd45a07e331c104"
     "620a5825c36b2d929cbe6070cf4c07569a1f4b3736b27e9b8ae97841e6a99e659c24dece06368500"
     "a8a78676600abe1bd7ac9579be34ab586892b0c8fcc140de13a404163bb443a14d363c062951e9b5"
     "17b290824ec6597825579ea154bc9797cbcdf7caf349823f"},
    {"Q5_K",
     "22141724fefefffffdfcfdffccdfff287c2e610b4c16f3933eb7a49073897c5d1f6ee5b13aecceb0"
     "cce18dcc92618962a7fbc016e1fbb861e0f448bd525af75f2bbaa501e673a20ac416a24c98c84d35"
     "598de001bf990ebc553e977f8d840c3724f2f191fd714dea3848ecad0d6d2b10525f0efec0066f28"
     "b04a3bf46f7959b3c2347092fb9291af374a192e687a97539b7d5a0d54a2d37a2f7430049d8ca3f0"
     "5aa02e43a969303f888cfe95e693045f"},
    {"Q6_K",
     "df48f0ed03c832745129101b56766f0f965d333eb54ddf5d2b11bad9c1ce6117ab01c70d52201872"
     "a26136e80416017556f8f531fdef85d16883c65814ca491764be5dac814c6d4ff0840679ae936205"
     "d50821b4f6d5121e0e84425c40958f06adfb22ef49901dd598da67dfbdbf8cf60888af5c702c8d89"
     "ebe61fcd35a0dd0588c17ab6c841236690025d2966ff889fa8ee6541dfa3bf52b711f5f21f14900b"
     "ba99f9d5e4822b12de0b4946bb11ab66eaa44072a34068631c052d1d3f9578c4846e7b857c868083"
     "84868677847a6c7c1c8c"},
    {"IQ4_NL", "1b20e345c89c31151d4920cba3563adef32f"},
    {"IQ4_XS",
     "400cc33f2ff0fe4fe345b89c31151d4920cba3563adef32f6b10baf709d021f4a0f0beeb24aee85e"
     "53617fff907319ba35c114189a9eb1f3abfd7748fec4b075ab11f4e3032d980aa9270797e01c0ffc"
     "384e456bdf443d1a5cabd8d8f6d04ce11ebb1a172cc34bb54e86fe164ad18a74d7e170b12ea62af8"
     "dbbc6d4fad3b50532e2305270bb27ad8"},
};

}  // namespace calque::formats::testing
