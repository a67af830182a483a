/** The API's page: Swagger UI over the daemon's own document, asking nobody else. */

import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js';

SwaggerUI({
  domNode: document.getElementById('docs'),
  url: '/openapi.json',
  deepLinking: true,
  // The default is an online validator.
  validatorUrl: null,
});
