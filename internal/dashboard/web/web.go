// Package web holds the dashboard's pages, styles and modules. They are served
// as they are: nothing is bundled or generated. Package dashboard serves them.
package web

import "embed"

// Pages are the HTML files; Assets are the files that they load.
//
//go:embed index.html new.html build.html webhooks.html
var Pages embed.FS

// Assets are served below /assets/ by their paths here.
//
//go:embed favicon.svg css/*.css app/*.js
var Assets embed.FS
