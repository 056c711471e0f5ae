// From the origin: an address with a name and a password in it is no base for a request.
SwaggerUIBundle({
  url: location.origin + "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
