# The C library libtritllm.so of include/tritllm.h, and what find_package(tritllm) needs. Installed by `make install`.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(tritllm_library SHARED c_api.cpp)
set_target_properties(tritllm_library PROPERTIES
  OUTPUT_NAME tritllm EXPORT_NAME tritllm VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} CXX_VISIBILITY_PRESET hidden
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
target_include_directories(tritllm_library PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(tritllm_library PRIVATE tritllm_api tritllm_flags)
set(exported ${CMAKE_CURRENT_SOURCE_DIR}/exported.map)
target_link_options(tritllm_library PRIVATE -Wl,--version-script=${exported})
set_property(TARGET tritllm_library APPEND PROPERTY LINK_DEPENDS ${exported})
if(TRITLLM_STATIC)
  target_link_options(tritllm_library PRIVATE -static-libstdc++ -static-libgcc)
endif()
if(TRITLLM_CUDA)
  target_sources(tritllm_library PRIVATE ${PROJECT_SOURCE_DIR}/src/backend/cuda/c_api.cpp)
  target_compile_definitions(tritllm_library PRIVATE TRITLLM_CUDA_C_API)
endif()

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/tritllm)
install(TARGETS tritllm_library EXPORT tritllm-targets LIBRARY COMPONENT library)
install(FILES ${PROJECT_SOURCE_DIR}/include/tritllm.h TYPE INCLUDE COMPONENT library)
install(EXPORT tritllm-targets NAMESPACE tritllm:: DESTINATION ${package_folder} COMPONENT library)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/tritllm-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/tritllm-config.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/tritllm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tritllm-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/tritllm-config-version.cmake
  DESTINATION ${package_folder} COMPONENT library)
