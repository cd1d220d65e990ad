# `cmake --install`: what goes where, in five components.
#   program      bin/calque, the SentencePiece plug-in, calibration texts, manual, completions
#   torch, cuda  plug-ins for GPUs
#   development  headers, static libraries, find_package(calque)
#   libraries    the shared libraries that the program needs, and their licences, for a package that runs where they
#                are not installed; only by name (--component libraries)
# The program looks for ../lib/calque and ../share/calque beside its folder, so the tree can be moved.

# ---- Program and plug-ins

# An RPATH of the old kind also holds for libraries that other libraries need.
target_link_options(calque_program PRIVATE LINKER:--disable-new-dtags)
set_target_properties(calque_program PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/calque")
install(TARGETS calque_program calque_sentencepiece RUNTIME_DEPENDENCY_SET calque_libraries
        RUNTIME DESTINATION bin COMPONENT program LIBRARY DESTINATION lib/calque COMPONENT program)
foreach(plugin torch cuda)
  if(TARGET calque_${plugin})
    install(TARGETS calque_${plugin} LIBRARY DESTINATION lib/calque COMPONENT ${plugin})
  endif()
endforeach()
install(DIRECTORY calibration_data/ DESTINATION share/calque/calibration COMPONENT program)

# ---- Manual and completions: the program prints them

set(share ${CMAKE_BINARY_DIR}/share)
set(printed man/man1/calque.1.gz man/man5/calque-job.5.gz bash-completion/completions/calque
            zsh/site-functions/_calque fish/vendor_completions.d/calque.fish)
list(TRANSFORM printed PREPEND ${share}/)
add_custom_command(
  OUTPUT ${printed}
  COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:calque_program> -DSHARE=${share} -P
          ${CMAKE_CURRENT_LIST_DIR}/print_manual.cmake
  DEPENDS calque_program ${CMAKE_CURRENT_LIST_DIR}/print_manual.cmake
  COMMENT "Printing manual and completions"
  VERBATIM)
add_custom_target(calque_manual ALL DEPENDS ${printed})
install(DIRECTORY ${share}/ DESTINATION share COMPONENT program)
install(FILES README.md LICENSE DESTINATION share/doc/calque COMPONENT program)

# ---- Shared libraries of the program: all but glibc's, which every system has its own of

install(RUNTIME_DEPENDENCY_SET calque_libraries
        PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv)\\.so"
        LIBRARY DESTINATION lib/calque COMPONENT libraries EXCLUDE_FROM_ALL)
install(SCRIPT ${CMAKE_CURRENT_LIST_DIR}/licences.cmake COMPONENT libraries EXCLUDE_FROM_ALL)

# ---- Libraries for other programs: calque::io, calque::quant, ..., calque::pipeline (everything)

set(exported ${CALQUE_ROOMS})
list(REMOVE_ITEM exported cli)
list(APPEND exported onednn options portable_options)
foreach(name ${exported})
  set_target_properties(calque_${name} PROPERTIES EXPORT_NAME ${name})
endforeach()
# Plug-ins lie beside the libraries.
target_link_options(calque_core INTERFACE "$<INSTALL_INTERFACE:LINKER:-rpath,$<INSTALL_PREFIX>/lib/calque>")
list(TRANSFORM exported PREPEND calque_)
install(TARGETS ${exported} EXPORT calque ARCHIVE DESTINATION lib/calque COMPONENT development)
install(DIRECTORY include/calque DESTINATION include COMPONENT development)

include(CMakePackageConfigHelpers)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/calqueConfig.cmake.in ${CMAKE_BINARY_DIR}/calqueConfig.cmake
                              INSTALL_DESTINATION lib/cmake/calque)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/calqueConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/calqueConfig.cmake ${CMAKE_BINARY_DIR}/calqueConfigVersion.cmake
        DESTINATION lib/cmake/calque COMPONENT development)
install(EXPORT calque NAMESPACE calque:: FILE calqueTargets.cmake DESTINATION lib/cmake/calque COMPONENT development)
