// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Build reads the files of the build context and returns the image. Its layers
// are not compressed: they are loaded into a node next door, and compression
// would tie the digest to one release of the compressor.
func Build(context *os.Root, spec Spec) (v1.Image, error) {
	epoch := v1.Time{Time: time.Unix(0, 0).UTC()}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	dirs := map[string]bool{"/": true}
	for _, layer := range spec.Layers {
		content, err := tarLayer(context, layer, dirs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", layer.Origin, err)
		}
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:   static.NewLayer(content, types.OCIUncompressedLayer),
			History: v1.History{Created: epoch, CreatedBy: layer.CreatedBy},
		})
		if err != nil {
			return nil, fmt.Errorf("%s: add layer: %w", layer.Origin, err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image config: %w", err)
	}
	config = config.DeepCopy()
	config.Created = epoch
	config.OS, config.Architecture, config.Variant = spec.Platform.OS, spec.Platform.Architecture, spec.Platform.Variant
	config.Config = *spec.Config.DeepCopy()
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("write image config: %w", err)
	}
	return img, nil
}
